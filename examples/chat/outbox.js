// What was written here and is not yet seen to be stored.

/** @typedef {import('./messages.js').Message} Message */
/**
 * @typedef {object} Entry
 * @property {string} key names the entry on this page
 * @property {string} from
 * @property {string} text
 * @property {number} at milliseconds since 1970
 * @property {'sending' | 'sent' | 'failed'} state `sent`: stored, but not yet seen in the stream
 * @property {string} reason why it failed, else empty
 * @property {boolean} uncertain failed without an answer: it may have been stored all the same
 */

// By how much this machine's clock may be ahead of the server's when an echo is recognised.
const CLOCK_TOLERANCE = 120_000;

export class Outbox {
  #send;
  #changed;
  #stored;
  #count = 0;
  /** @type {Entry[]} */
  #entries = [];
  // One after the other, so that two quick messages arrive in the order in which they were written.
  /** @type {Promise<void>} */
  #line = Promise.resolve();

  /**
   * @param {object} options
   * @param {(entry: Entry) => Promise<unknown>} options.send writes the entry; gives its `_id` when that is known
   * @param {(entry: Entry, id: unknown) => void} options.stored called when the server took it, with the `_id`
   * @param {() => void} options.changed called after each change of the list
   */
  constructor({ send, stored, changed }) {
    this.#send = send;
    this.#stored = stored;
    this.#changed = changed;
  }

  /** In the order of writing. @returns {readonly Entry[]} */
  get list() {
    return this.#entries;
  }

  /**
   * @param {string} from
   * @param {string} text
   * @param {number} now milliseconds since 1970
   */
  add(from, text, now) {
    /** @type {Entry} */
    const entry = { key: `out-${++this.#count}`, from, text, at: now, state: 'sending', reason: '', uncertain: false };
    this.#entries.push(entry);
    this.#queue(entry);
    return entry;
  }

  /**
   * @param {string} key
   * @param {number} now milliseconds since 1970
   */
  retry(key, now) {
    const entry = this.#entries.find((one) => one.key === key && one.state === 'failed');
    if (!entry) return;
    this.#entries = [...this.#entries.filter((one) => one !== entry), entry];
    Object.assign(entry, { state: 'sending', reason: '', uncertain: false, at: now });
    this.#queue(entry);
  }

  /** @param {string} key */
  discard(key) {
    this.#entries = this.#entries.filter((entry) => entry.key !== key);
    this.#changed();
  }

  /**
   * A message that is new on this page may be the echo of an entry, which then leaves the list. One that failed without
   * an answer counts too: so a lost answer does not tempt anybody to write twice.
   * @param {Message} message
   * @returns {Entry | undefined}
   */
  settle(message) {
    const alike = this.#entries.filter(
      (entry) =>
        entry.from === message.from && entry.text === message.text && message.at > entry.at - CLOCK_TOLERANCE,
    );
    const entry =
      alike.find(({ state }) => state === 'sent') ??
      alike.find(({ state }) => state === 'sending') ??
      alike.find(({ uncertain }) => uncertain);
    if (entry) this.#entries = this.#entries.filter((one) => one !== entry);
    return entry;
  }

  /** @param {Entry} entry */
  #queue(entry) {
    this.#changed();
    this.#line = this.#line.then(async () => {
      try {
        const id = await this.#send(entry);
        if (this.#entries.includes(entry)) entry.state = 'sent';
        this.#stored(entry, id);
      } catch (error) {
        entry.state = 'failed';
        entry.reason = error instanceof Error ? error.message : String(error);
        entry.uncertain = !(/** @type {{ status?: number }} */ (error).status);
      }
      this.#changed();
    });
  }
}
