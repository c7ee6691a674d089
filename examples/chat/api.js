// The document API of the one collection that the chat uses, and the address of its stream.

/** @typedef {Record<string, unknown>} Document */

const COLLECTION = 'messages';
const STREAM = 'all';
const READ_TIMEOUT = 10_000;
// Longer than a read: a write that is given up on may still have happened.
const WRITE_TIMEOUT = 15_000;

/** A request that was answered with an error, or not at all (`status` 0). */
export class ApiError extends Error {
  /**
   * @param {string} message what to tell the person
   * @param {number} status the HTTP status; 0 when no answer came
   * @param {number} [retryAfter] seconds that the server asks to wait
   */
  constructor(message, status, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may well succeed later, unchanged. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/**
 * Where the API is: `?api=…`, else port 8787 (the edge) of the host that served the page.
 * @param {URL} page
 */
export function apiAddress(page) {
  const asked = page.searchParams.get('api');
  if (!asked) {
    const local = page.hostname === '' || page.protocol === 'file:';
    return new URL(local ? 'http://127.0.0.1:8787' : `${page.protocol}//${page.hostname}:8787`);
  }
  if (!/^https?:/i.test(asked) || !URL.canParse(asked)) {
    throw new TypeError(`?api=${asked} is no address; expected one such as http://127.0.0.1:8787`);
  }
  return new URL(asked);
}

export class Api {
  #collection;

  /** @param {URL} address database root, for example `http://127.0.0.1:8787/` */
  constructor(address) {
    this.host = address.host;
    this.#collection = `${address.origin}${address.pathname.replace(/\/+$/, '')}/${COLLECTION}`;
  }

  /** The stream's address for a WebSocket. */
  get streamAddress() {
    return `${this.#collection}/_streams/${STREAM}`.replace(/^http/, 'ws');
  }

  /**
   * One page of documents, newest first. Pages are cut by `_id`, not by number: numbers shift with each new message.
   * @param {{ size: number, before?: unknown, since?: unknown }} page `before` is the `_id` behind which the page begins,
   *   `since` the last `_id` that it may hold
   * @returns {Promise<Document[]>}
   */
  async page({ size, before, since }) {
    const query = new URLSearchParams({ page: '1', pagesize: String(size), sort: '{"_id":-1}' });
    // JSON leaves out what is undefined.
    if (before !== undefined || since !== undefined) {
      query.set('filter', JSON.stringify({ _id: { $lt: before, $gte: since } }));
    }
    const { body } = await request(`${this.#collection}?${query}`, { signal: AbortSignal.timeout(READ_TIMEOUT) });
    if (!Array.isArray(body)) throw new ApiError('the server answered no list of messages', 502);
    return body;
  }

  /**
   * Writes a message.
   * @param {{ from: string, text: string, at: number }} message
   * @returns {Promise<unknown>} the `_id` that the server gave it, or undefined when the answer does not show it
   */
  async send({ from, text, at }) {
    const { headers } = await request(this.#collection, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ from, message: text, timestamp: { $date: at } }),
      signal: AbortSignal.timeout(WRITE_TIMEOUT),
    });
    // Another origin's page sees Location only where the server exposes it.
    const id = headers.get('Location')?.split('/').pop();
    return id && /^[0-9a-f]{24}$/.test(id) ? { $oid: id } : undefined;
  }
}

/**
 * @param {string} address
 * @param {RequestInit} options
 * @returns {Promise<{ headers: Headers, body: any }>} `body` is undefined where it is no JSON
 */
async function request(address, options) {
  let answer, text;
  try {
    answer = await fetch(address, { ...options, cache: 'no-store' });
    text = await answer.text();
  } catch (error) {
    const late = error instanceof DOMException && error.name === 'TimeoutError';
    throw new ApiError(late ? 'the server did not answer in time' : 'the server cannot be reached', 0);
  }
  const body = json(text);
  if (answer.ok) return { headers: answer.headers, body };
  const seconds = Number(answer.headers.get('Retry-After')) || undefined;
  throw new ApiError(body?.message ?? `the server answered ${answer.status}`, answer.status, seconds);
}

/**
 * @param {string} text
 * @returns {any}
 */
function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
