// The messages that are shown: what was read and what came live, each once, in the order of the conversation.

/** @typedef {import('./api.js').Document} Document */
/**
 * @typedef {object} Message
 * @property {string} key names the message on this page
 * @property {unknown} id `_id` as the API writes it
 * @property {string} from
 * @property {string} text
 * @property {number} at when it was written, in milliseconds since 1970
 */
/**
 * @typedef {object} ChangeEvent
 * @property {string} operationType
 * @property {Document | null} fullDocument null for a delete, and where the document has gone meanwhile
 * @property {{ _id: unknown } | null} documentKey
 */
/** @typedef {{ before: unknown, events: ChangeEvent[] }} Reading a read under way, and the events that came during it */

/** @param {unknown} id */
export function keyOf(id) {
  return objectId(id) ?? JSON.stringify(id);
}

/**
 * @param {unknown} id
 * @returns {string | undefined} the 24 hexadecimal digits
 */
function objectId(id) {
  const digits = /** @type {{ $oid?: unknown } | null} */ (id)?.$oid;
  return typeof digits === 'string' ? digits : undefined;
}

/**
 * A date of Extended JSON: milliseconds, ISO text, or canonical.
 * @param {unknown} value
 */
function milliseconds(value) {
  const date = /** @type {{ $date?: unknown } | null} */ (value)?.$date;
  const number = /** @type {{ $numberLong?: string } | null} */ (date)?.$numberLong ?? date;
  const time = typeof number === 'string' && !/^-?\d+$/.test(number) ? Date.parse(number) : Number(number ?? NaN);
  return Number.isFinite(time) && Math.abs(time) < 8.64e15 ? time : undefined;
}

/** @param {Message} message */
function second(message) {
  const digits = objectId(message.id);
  return digits ? parseInt(digits.slice(0, 8), 16) : Math.floor(message.at / 1000);
}

/**
 * The server's clock, which is in the ObjectId, decides; the written time only within one second. So a person whose clock
 * is wrong does not stay at the end of everybody's list.
 * @param {Message} a
 * @param {Message} b
 */
function inOrder(a, b) {
  return second(a) - second(b) || a.at - b.at || (a.key < b.key ? -1 : 1);
}

/**
 * @param {Document | null} document
 * @returns {Message | undefined} undefined for a document that is no chat message
 */
export function toMessage(document) {
  if (!document || typeof document.message !== 'string' || document._id === undefined) return undefined;
  const from = typeof document.from === 'string' && document.from.trim() ? document.from : 'Somebody';
  const message = { key: keyOf(document._id), id: document._id, from, text: document.message, at: 0 };
  message.at = milliseconds(document.timestamp) ?? second(message) * 1000;
  return message;
}

export class Messages {
  /** @type {Map<string, Message>} */
  #shown = new Map();
  /** @type {Set<Reading>} */
  #readings = new Set();
  /** @type {unknown} */
  #oldest;
  #complete = false;

  /** Oldest first. */
  get list() {
    return [...this.#shown.values()].sort(inOrder);
  }

  /** The `_id` behind which the next older page begins; undefined before the first read. */
  get oldest() {
    return this.#oldest;
  }

  /** Whether nothing older is left to read. */
  get complete() {
    return this.#complete;
  }

  /**
   * Begins a read. What arrives live until it is finished counts as newer than what it reads.
   * @returns {Reading}
   */
  begin() {
    const reading = { before: this.#oldest, events: [] };
    this.#readings.add(reading);
    return reading;
  }

  /** @param {Reading} reading */
  abandon(reading) {
    this.#readings.delete(reading);
  }

  /**
   * Ends a read of the newest messages: they and what came meanwhile are all that is shown from now on. After a time
   * without connection this also takes away what was deleted, and leaves no hole where more was written than was read.
   * @param {Reading} reading
   * @param {Document[]} documents newest first
   * @param {boolean} complete whether they reach the beginning
   * @returns {Message[]} those that were not shown before
   */
  finishNewest(reading, documents, complete) {
    this.abandon(reading);
    const before = this.#shown;
    this.#shown = new Map();
    this.#oldest = documents.at(-1)?._id;
    this.#complete = complete;
    for (const document of documents) this.#put(toMessage(document));
    for (const event of reading.events) this.#apply(event);
    return this.list.filter((message) => !before.has(message.key));
  }

  /**
   * Ends a read of the page behind `oldest`.
   * @param {Reading} reading
   * @param {Document[]} documents newest first
   * @param {boolean} complete whether they reach the beginning
   */
  finishOlder(reading, documents, complete) {
    this.abandon(reading);
    // A read of the newest ended in between and cut elsewhere: this page would leave a hole.
    if (keyOf(reading.before) !== keyOf(this.#oldest)) return;
    this.#oldest = documents.at(-1)?._id ?? this.#oldest;
    this.#complete = complete;
    for (const document of documents) {
      if (!this.#shown.has(keyOf(document._id))) this.#put(toMessage(document));
    }
    for (const event of reading.events) this.#apply(event);
  }

  /**
   * Takes in an event of the stream.
   * @param {ChangeEvent} event
   * @returns {Message | undefined} the message when it is new here
   */
  apply(event) {
    for (const reading of this.#readings) reading.events.push(event);
    return this.#apply(event);
  }

  /**
   * Takes in a document that was just written, unless the stream already showed it: then it may have changed since.
   * @param {Document} document
   * @returns {Message | undefined} the message when it is new here
   */
  add(document) {
    if (this.#shown.has(keyOf(document._id))) return undefined;
    return this.apply({ operationType: 'insert', fullDocument: document, documentKey: { _id: document._id } });
  }

  /**
   * @param {ChangeEvent} event
   * @returns {Message | undefined}
   */
  #apply({ operationType, fullDocument, documentKey }) {
    const id = documentKey?._id ?? fullDocument?._id;
    if (id === undefined) return undefined;
    const key = keyOf(id);
    const known = this.#shown.has(key);
    const message = toMessage(fullDocument);
    if (!message) {
      // Deleted, gone before MongoDB could look it up, or no message any more.
      this.#shown.delete(key);
      return undefined;
    }
    // A change of something older than what was read: 'load more' will bring it in its place.
    if (operationType !== 'insert' && !known && !this.#reaches(id)) return undefined;
    this.#put(message);
    return known ? undefined : message;
  }

  /** @param {unknown} id */
  #reaches(id) {
    if (this.#complete) return true;
    const [digits, oldest] = [objectId(id), objectId(this.#oldest)];
    return digits !== undefined && oldest !== undefined && digits >= oldest;
  }

  /** @param {Message | undefined} message */
  #put(message) {
    if (message) this.#shown.set(message.key, message);
  }
}
