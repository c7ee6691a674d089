import { PLAIN, V1 } from './message.js';

/** In which form the server speaks, as far as it was found out. */
export class Form {
  /** The server knows no v1: one text an event, and no keepalives. */
  isPlain = false;
  /** The server seems to know no sub-protocols at all: none are offered. */
  #bare = false;
  /** Handshakes in a row that failed, though the server would accept them. */
  #unanswered = 0;

  /** The sub-protocols of the next handshake. Plain stands behind v1: a server takes the first that it knows. */
  offers(token: string | undefined): string[] {
    return this.#bare ? [] : [V1, PLAIN, ...(token ? [`bearer.${token}`] : [])];
  }

  /** @returns whether the server speaks as the request, which asks for positions in the plain form alone, took for granted */
  opened(protocol: string): boolean {
    const knewPlain = this.isPlain;
    this.isPlain = protocol !== V1;
    return knewPlain || !this.isPlain;
  }

  /** A connection that was open has ended. */
  closed(): void {
    this.#bare = false;
    this.#unanswered = 0;
  }

  /**
   * A handshake failed that the server says it would accept. It is back by now; or it knows no sub-protocols, and a browser
   * ends a handshake that leaves its offer unanswered.
   *
   * @param needed what is asked for cannot be had without sub-protocols
   */
  failed(needed: boolean): void {
    this.#bare = ++this.#unanswered % 2 === 0 && !needed;
  }
}
