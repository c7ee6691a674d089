import { StreamError } from './errors.js';

/** The part of the WebSocket interface that is used; browsers', Workers', Node's and the package ws's all have it. */
export interface WebSocketLike {
  readonly protocol: string;
  send(text: string): void;
  close(code?: number): void;
  addEventListener(type: any, listener: (event: any) => void): void;
}

export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

export interface ConnectionEvents {
  opened(protocol: string): void;
  said(text: string): void;
  /** Once, and not after `drop`. `wasOpen` is false when the handshake failed. */
  closed(wasOpen: boolean, code: number, reason: string): void;
}

/** One WebSocket, from its handshake to its close. Once dropped it is never heard of again. */
export class Connection {
  #socket: WebSocketLike;
  #dropped = false;
  /** Whether the handshake is done. */
  isOpen = false;
  /** When the server last gave a sign of life, in milliseconds since 1970. */
  heard = Date.now();

  constructor(type: WebSocketConstructor, address: string, protocols: string[], events: ConnectionEvents) {
    try {
      this.#socket = new type(address, protocols);
    } catch (cause) {
      // A token with characters that no sub-protocol may have, or `ws:` on a page from https.
      throw new StreamError(`no WebSocket can be opened: ${(cause as Error).message}`, { cause });
    }
    const on = (type: string, listener: (event: any) => void) =>
      this.#socket.addEventListener(type, (event) => {
        this.heard = Date.now();
        if (!this.#dropped) listener(event);
      });
    on('open', () => {
      this.isOpen = true;
      events.opened(this.#socket.protocol);
    });
    on('message', ({ data }) => {
      if (typeof data === 'string') events.said(data);
    });
    on('close', ({ code, reason }) => {
      this.#dropped = true;
      events.closed(this.isOpen, code, reason);
    });
    // A close follows. Without a listener the package ws would end the process.
    on('error', () => {});
  }

  send(message: object): void {
    if (!this.#dropped) this.#socket.send(JSON.stringify(message));
  }

  drop(): void {
    this.#dropped = true;
    this.#socket.close(1000);
  }
}
