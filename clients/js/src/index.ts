import type { WatchOptions } from './options.js';
import { Stream } from './stream.js';

/**
 * Opens a stream and keeps it open.
 *
 * @param url of the stream, such as `wss://api.example.com/messages/_streams/all`; in a page also a path
 * @throws TypeError when `url` is no address, or when there is no WebSocket
 */
export function watch<T = Record<string, unknown>>(url: string | URL, options: WatchOptions = {}): Stream<T> {
  return new Stream<T>(url, options);
}

export type { WebSocketConstructor, WebSocketLike } from './connection.js';
export { ClosedError, RefusedError, StreamError } from './errors.js';
export type * from './item.js';
export type { TokenRequest, TokenSource, WatchOptions } from './options.js';
export type { State } from './session.js';
export type { Stream, StreamEvents } from './stream.js';
