// The connection to the stream: opens it, and opens it again whenever that makes sense, behind the last event that came.

/** @typedef {import('./api.js').ApiError} ApiError */
/**
 * @typedef {object} State
 * @property {'connecting' | 'open' | 'waiting' | 'stopped'} name
 * @property {string} reason why it is not open, in words; may be empty
 * @property {boolean} resumed open, and every event since the last one that came will come
 */
/** @typedef {import('./messages.js').ChangeEvent & { position?: string }} PlacedEvent */

const HANDSHAKE_TIMEOUT = 10_000;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
// A connection that lived this long was a good one: the next pause is a short one again.
const GOOD_LIFE = 5_000;
const HISTORY_LOST = 4004;

/** Closes after which the same answer would come back. All others: connect again. */
const STOPS = new Map([
  [4002, 'The conversation is gone.'],
  [4403, 'You may no longer read this conversation.'],
]);

/** @type {Map<number, string>} */
const REASONS = new Map([
  [1001, 'The server restarts.'],
  [1013, 'The server is overloaded.'],
  [4001, 'The stream was changed.'],
  [4003, 'This connection was too slow.'],
  [HISTORY_LOST, 'Messages were missed; reading them again.'],
  [4401, 'The session expired.'],
]);

/**
 * How long to wait before the next attempt, in milliseconds: doubling, and half of it random, so that the clients of a
 * restarted server do not all come at once.
 * @param {number} failures attempts in a row that came to nothing
 * @param {number} random 0 to 1
 */
export function pause(failures, random) {
  const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures);
  return longest / 2 + (longest / 2) * random;
}

export class Stream {
  #options;
  /** @type {WebSocket | undefined} */
  #socket;
  #failures = 0;
  #openedAt = 0;
  /** The place behind the last event, as the server named it; undefined where nothing can be continued. */
  /** @type {string | undefined} */
  #position;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {State} */
  #state = { name: 'stopped', reason: '', resumed: false };

  /**
   * @param {object} options
   * @param {string} options.address of the stream, without a query
   * @param {(query: string) => Promise<ApiError | undefined>} options.whyRefused asks why a handshake failed
   * @param {(state: State) => void} options.onState
   * @param {(event: PlacedEvent) => void} options.onEvent
   */
  constructor(options) {
    this.#options = options;
  }

  get state() {
    return this.#state;
  }

  /** Connects now: at the start, when the person asks, or when the network came back. Drops a connection that is there. */
  connect() {
    this.#drop();
    this.#become('connecting', this.#state.reason);
    const from = this.#position;
    const query = `?${new URLSearchParams({ position: 'true', ...(from && { resumeAfter: from }) })}`;
    let refused = true;
    let socket;
    try {
      socket = new WebSocket(this.#options.address + query);
    } catch {
      // A page from https may not open ws: at all (Mixed Content, W3C).
      return this.#become('stopped', `This page may not connect to ${this.#options.address}.`);
    }
    this.#socket = socket;
    // A server that accepts and says nothing.
    this.#timer = setTimeout(() => socket.close(), HANDSHAKE_TIMEOUT);

    socket.addEventListener('open', () => {
      if (socket !== this.#socket) return;
      clearTimeout(this.#timer);
      refused = false;
      this.#openedAt = Date.now();
      this.#become('open', '', from !== undefined);
    });
    socket.addEventListener('message', ({ data }) => {
      if (socket !== this.#socket || typeof data !== 'string') return;
      /** @type {PlacedEvent} */
      const event = JSON.parse(data);
      this.#options.onEvent(event);
      this.#position = event.position;
    });
    socket.addEventListener('close', ({ code }) => {
      if (socket !== this.#socket) return;
      clearTimeout(this.#timer);
      if (refused) void this.#ask(socket, query);
      else this.#closed(code);
    });
  }

  /** @param {number} code */
  #closed(code) {
    if (code === HISTORY_LOST) this.#position = undefined;
    const stop = STOPS.get(code);
    if (stop) return this.#become('stopped', stop);
    if (Date.now() - this.#openedAt >= GOOD_LIFE) this.#failures = 0;
    this.#wait(REASONS.get(code) ?? 'The connection was lost.');
  }

  /**
   * @param {WebSocket} socket
   * @param {string} query with which it was refused
   */
  async #ask(socket, query) {
    const refusal = await this.#options.whyRefused(query);
    if (socket !== this.#socket) return;
    if (this.#position && (!refusal || refusal.status === 400)) {
      // The server answers, so it may be the position that it does not take: go on without, and read all again.
      this.#position = undefined;
      return this.#wait('');
    }
    if (refusal && !refusal.passing) return this.#become('stopped', sentence(refusal.message));
    this.#wait(refusal ? sentence(refusal.message) : '', refusal?.retryAfter);
  }

  /**
   * @param {string} reason
   * @param {number} [atLeast] seconds
   */
  #wait(reason, atLeast = 0) {
    const delay = Math.max(pause(this.#failures++, Math.random()), Math.min(atLeast * 1000, LONGEST_PAUSE));
    this.#become('waiting', reason);
    this.#timer = setTimeout(() => this.connect(), delay);
  }

  #drop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
  }

  /**
   * @param {State['name']} name
   * @param {string} reason
   * @param {boolean} [resumed]
   */
  #become(name, reason, resumed = false) {
    this.#state = { name, reason, resumed };
    this.#options.onState(this.#state);
  }
}

/** @param {string} text */
function sentence(text) {
  return text && text[0]?.toUpperCase() + text.slice(1).replace(/\.?$/, '.');
}
