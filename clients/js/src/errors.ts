/** Why a stream ended, or waits before its next attempt. */
export class StreamError extends Error {
  override name = 'StreamError';
}

/** The server refused the handshake, and said so when asked by a plain GET. */
export class RefusedError extends StreamError {
  override name = 'RefusedError';

  constructor(
    message: string,
    /** The HTTP status. */
    readonly status: number,
    /** The server's name for the refusal, such as `QueryVariableNotBoundException`. */
    readonly exception?: string,
    /** How long the server asks to wait, in seconds. */
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

/** The server, or the network, closed the connection. */
export class ClosedError extends StreamError {
  override name = 'ClosedError';

  constructor(
    /** The WebSocket close code; 1006 when the connection broke. */
    readonly code: number,
    /** What the server gave as the reason; may be empty. */
    readonly reason: string,
  ) {
    super(`closed with ${code}${reason && `: ${reason}`}`);
  }
}
