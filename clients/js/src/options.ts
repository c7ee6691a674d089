import type { WebSocketConstructor } from './connection.js';
import type { Position, View } from './item.js';

/** Why a token is asked for. */
export interface TokenRequest {
  /** True when the last token expires, has expired, or was refused: one from a cache would be no better. */
  refresh: boolean;
  /** Aborted when the stream is closed, and when the attempt that the token is for is given up, after 15 s. */
  signal: AbortSignal;
}

/**
 * Gives the token for the next connection, or nothing to connect without one. Is called before each attempt. If it throws,
 * the attempt has failed and there will be another; a thrown `StreamError` ends the stream.
 */
export type TokenSource = (request: TokenRequest) => string | null | undefined | Promise<string | null | undefined>;

export interface WatchOptions {
  /** The variables of the stream's definition: JSON values, with Extended JSON for BSON types. */
  avars?: Record<string, unknown> | undefined;
  /** First the current documents, then the changes. The definition has to allow it. */
  snapshot?: boolean | undefined;
  /** A bearer token, or where to get one. Only a source can renew it. */
  token?: string | TokenSource | undefined;
  /** Ends the stream quietly, as `close()` does. */
  signal?: AbortSignal | undefined;
  /** Continues behind this position, one that an earlier stream gave. */
  resumeAfter?: Position | undefined;
  /** What was shown up to `resumeAfter`: the `view` of the last `ready` before it. Where it is another by now, that is told. */
  view?: View | undefined;
  /** How BSON types are written as JSON. */
  jsonMode?: 'relaxed' | 'canonical' | 'strict' | 'extended' | undefined;
  /**
   * How much may wait for the consumer, in characters of JSON; 4 Mi unless told. When more comes the stream pauses, and
   * continues once half of it is taken. One item always fits, and so does a snapshot.
   */
  buffer?: number | undefined;
  /** For the plain GET that asks why a handshake was refused; `include` for a cookie of another origin. */
  credentials?: RequestCredentials | undefined;
  /** The class of the socket where there is none, as on Node 20: the package ws has one. */
  WebSocket?: WebSocketConstructor | undefined;
}
