import { asked, pause } from './backoff.js';

/** A connection that lived this long was no failure. */
const GOOD_LIFE = 10_000;

/** How the attempts to connect went so far, and so when the next one is due. */
export class Attempts {
  /** Those in a row that came to nothing. */
  #failures = 0;
  #openedAt = 0;
  #progress = false;
  #notBefore = 0;

  /** The connection is open. */
  opened(): void {
    this.#openedAt = Date.now();
    this.#progress = false;
  }

  /** The connection brought what a next one need not bring again. */
  progressed(): void {
    this.#progress = true;
  }

  /**
   * The attempt failed, or its connection ended.
   *
   * @param retryAfter what the server asks for, in seconds
   * @returns the pause before the next one, in milliseconds
   */
  failed(retryAfter?: number): number {
    if (this.#progress || (this.#openedAt && Date.now() - this.#openedAt > GOOD_LIFE)) this.#failures = 0;
    this.#progress = false;
    this.#openedAt = 0;
    this.#notBefore = Date.now() + asked(retryAfter);
    return pause(this.#failures++, retryAfter);
  }

  /** What is left of the pause that the server asked for, in milliseconds. */
  get owed(): number {
    return Math.max(0, this.#notBefore - Date.now());
  }

  /** Things are other than when they failed: the next pauses are short. */
  forgive(): void {
    this.#failures = 0;
  }
}
