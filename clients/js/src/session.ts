import { Address } from './address.js';
import { Attempts } from './attempts.js';
import { adviceOf } from './close.js';
import { Connection, type WebSocketConstructor } from './connection.js';
import type { Delivery } from './delivery.js';
import { ClosedError, StreamError } from './errors.js';
import { Form } from './form.js';
import type { Item, Position, View } from './item.js';
import { V1, read } from './message.js';
import type { WatchOptions } from './options.js';
import { whyRefused } from './refusal.js';
import { watchWakes } from './wake.js';

/** What the connection is doing. */
export type State =
  | { name: 'connecting' | 'open' }
  /** The next attempt comes after `delay` milliseconds; `error` says what became of the last one. */
  | { name: 'waiting'; delay: number; error: StreamError }
  /** The consumer is behind; the connection is closed until it has caught up. */
  | { name: 'paused' }
  | { name: 'closed'; error?: unknown };

const BUFFER = 4 * 1024 * 1024;
/** A token that takes longer will not come; a handshake that takes longer has met a network that swallows packets. */
const OPENS_WITHIN = 15_000;
/** The server says something every 25 s, or as configured, but at least every 50 s. */
const SILENCE = 60_000;
/** Why a snapshot has to begin again behind a position that is good. */
const CHANGED = 'what is in view may have changed';
/** After a sleep, what waits in the socket is read within this time. */
const GRACE = 2_000;
/** The plain form has no keepalive: after a sleep this long its connection is not trusted. */
const LONG_SLEEP = 90_000;

/** Keeps a stream open: connects, continues behind the last position, and knows when to stop. */
export class Session<T> {
  #options: WatchOptions;
  #address: Address;
  #socketType: WebSocketConstructor;
  #delivery: Delivery<T>;
  #tell: (state: State) => void;
  #unwatch: () => void;
  #attempts = new Attempts();
  #form = new Form();
  /** Ends with the attempt, or with the connection that came of it. */
  #attempt = new AbortController();

  #state: State = { name: 'connecting' };
  #connection: Connection | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #token: string | undefined;
  /** The token that was last used is no good any more. */
  #refresh = false;

  /** Behind the last item that is on its way to the consumer: where a new connection continues. */
  #position: Position | undefined;
  /** What was shown up to there, as far as servers say. */
  #view: View | undefined;
  /** The connection is in a snapshot, which cannot be continued, only begun again. */
  #inSnapshot = false;
  /** Was open once: to be open again without a position is to have lost events. */
  #begun = false;
  /** Why events were lost, until the stream is open again: who loads the data only then misses nothing. */
  #gap: string | undefined;
  /** The last connection ended because another view may be shown to the next one. Where both are known they decide. */
  #changed = false;
  /** The last session ended on an event that the pipeline fails on. */
  #stuck = false;

  constructor(url: string | URL, options: WatchOptions, delivery: Delivery<T>, tell: (state: State) => void) {
    const socketType = options.WebSocket ?? globalThis.WebSocket;
    if (!socketType) throw new TypeError('there is no WebSocket here: give one as the option WebSocket');
    this.#socketType = socketType;
    this.#options = options;
    this.#address = new Address(url, {
      avars: options.avars && JSON.stringify(options.avars),
      jsonMode: options.jsonMode,
    });
    this.#position = options.resumeAfter;
    this.#view = options.view;
    this.#delivery = delivery;
    this.#tell = tell;
    this.#unwatch = watchWakes({
      tick: () => this.#checkSilence(),
      woke: (slept) => this.#woke(slept),
      online: () => (this.#state.name === 'waiting' ? this.#hurry() : this.#again()),
    });
    options.signal?.addEventListener('abort', this.close);
    if (options.signal?.aborted) this.close();
    else void this.#connect();
  }

  get state(): State {
    return this.#state;
  }

  /** Ends the stream. With an error it is the consumer's last item; without one nothing more is handed over. */
  close = (error?: unknown): void => {
    if (this.#state.name === 'closed') return;
    // An abort signal gives its event here.
    const failure = error instanceof Error ? error : undefined;
    this.#drop();
    this.#unwatch();
    this.#options.signal?.removeEventListener('abort', this.close);
    this.#become(failure ? { name: 'closed', error: failure } : { name: 'closed' });
    this.#delivery.end(failure);
  };

  /** The consumer took something. */
  taken(): void {
    if (this.#state.name === 'paused' && this.#delivery.size <= (this.#options.buffer ?? BUFFER) / 2) this.#again();
  }

  /** Ends a pause, also one that the server asked for. */
  retry(): void {
    if (this.#state.name !== 'waiting') return;
    this.#attempts.forgive();
    this.#again();
  }

  /** Ends a pause of ours. Of one that the server asked for the rest is kept, by the wall clock: timers stand still in a sleep. */
  #hurry(): void {
    const { owed } = this.#attempts;
    if (!owed) return this.retry();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#again(), owed);
  }

  #become(state: State): void {
    this.#state = state;
    this.#tell(state);
  }

  #drop(): void {
    clearTimeout(this.#timer);
    this.#attempt.abort();
    this.#connection?.drop();
    this.#connection = undefined;
  }

  /** Connects now, whatever was going on. */
  #again(): void {
    if (this.#state.name === 'closed') return;
    this.#drop();
    void this.#connect();
  }

  async #connect(): Promise<void> {
    const connecting: State = { name: 'connecting' };
    this.#become(connecting);
    this.#attempt = new AbortController();
    this.#within('the token does not come');
    let token;
    try {
      token = await this.#getToken(this.#refresh);
    } catch (error) {
      if (this.#state === connecting) this.#failed(error, error instanceof StreamError);
      return;
    }
    // Another attempt, or the end, may have come in between.
    if (this.#state !== connecting) return;
    this.#token = token;

    this.#inSnapshot = !!this.#options.snapshot && !this.#position;
    const address = this.#address.socket({
      resumeAfter: this.#position,
      snapshot: this.#inSnapshot ? 'true' : undefined,
      position: this.#form.isPlain ? 'true' : undefined,
    });
    try {
      this.#connection = new Connection(this.#socketType, address, this.#form.offers(token), {
        opened: (protocol) => this.#opened(protocol),
        said: (text) => this.#said(text),
        closed: (wasOpen, code, reason) => void (wasOpen ? this.#closed(code, reason) : this.#refused(address)),
      });
    } catch (error) {
      return this.close(error);
    }
    this.#within('the server does not answer');
  }

  /** Gives the attempt up if the next step takes too long. */
  #within(what: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#failed(new StreamError(what)), OPENS_WITHIN);
  }

  async #getToken(refresh: boolean): Promise<string | undefined> {
    const { token } = this.#options;
    return typeof token === 'function' ? ((await token({ refresh, signal: this.#attempt.signal })) ?? undefined) : token;
  }

  #opened(protocol: string): void {
    clearTimeout(this.#timer);
    this.#refresh = false;
    const isAsAsked = this.#form.opened(protocol);
    const { isPlain } = this.#form;
    if (isPlain && this.#options.snapshot) {
      return this.close(new StreamError(`a snapshot needs ${V1}, which the server does not speak`));
    }
    // This connection did not ask for positions; nothing was taken from it yet.
    if (!isAsAsked) return this.#again();
    this.#attempts.opened();
    if (isPlain) this.#ready(undefined);
  }

  #ready(position: Position | undefined, view?: View): void {
    const resumed = this.#position !== undefined;
    const changed = resumed && (view && this.#view ? view !== this.#view : this.#changed);
    if (changed && this.#options.snapshot) {
      // Nothing of this connection has been handed over: another snapshot shows what is in view now.
      this.#lose(CHANGED);
      return this.#again();
    }
    this.#become({ name: 'open' });
    if (this.#begun && !resumed && !this.#inSnapshot) this.#gap ??= 'there was no position to continue from';
    this.#begun = true;
    // When it continues its own position counts: what lies between the two is still to come.
    if (!resumed && !this.#inSnapshot) this.#position = position;
    // A server that does not say leaves it as it was, or unknown.
    if (view || !resumed) this.#view = view;
    if (this.#gap !== undefined) this.#push({ type: 'gap', reason: this.#gap, position: this.#position }, 0);
    this.#gap = undefined;
    this.#push({ type: 'ready', position: this.#position, ...(view && { view }), resumed, ...(changed && { changed }) }, 0);
    this.#changed = false;
  }

  #said(text: string): void {
    let message;
    try {
      message = read<T>(text, this.#form.isPlain);
    } catch {
      return this.#failed(new StreamError('the server sent what is no JSON'));
    }
    switch (message.type) {
      case 'ready':
        return this.#ready(message.position, typeof message.view === 'string' ? message.view : undefined);
      case 'snapshot':
        return this.#push({ type: 'snapshot', document: message.document }, text.length);
      case 'snapshotEnd':
        this.#inSnapshot = false;
        return this.#pushAt({ type: 'snapshotEnd', position: message.position }, 0);
      case 'event':
      case 'enter':
        return this.#pushAt({ type: message.type, event: message.event, position: message.position }, text.length);
      case 'leave':
        return this.#pushAt({ type: 'leave', documentKey: message.documentKey, position: message.position }, text.length);
      case 'error':
        return this.#pushAt({ type: 'error', code: message.code, position: message.position }, text.length);
      case 'keepalive':
        if (this.#inSnapshot) return;
        this.#position = message.position;
        return this.#delivery.advance(message.position);
      case 'gap':
        if (this.#options.snapshot) {
          // The current documents are the way to load the data again.
          this.#lose(message.reason);
          return this.#again();
        }
        // To the consumer it is the same as a new beginning on a new connection.
        this.#lose(message.reason);
        return this.#ready(message.position, this.#view);
      case 'expiring':
        return void this.#renew(this.#connection!);
    }
  }

  /** An item behind which a new connection can continue. */
  #pushAt(item: Item<T> & { position?: Position | undefined }, size: number): void {
    if (!this.#inSnapshot && item.position !== undefined) {
      this.#position = item.position;
      this.#attempts.progressed();
    }
    this.#stuck = false;
    this.#push(item, size);
  }

  #push(item: Item<T>, size: number): void {
    this.#delivery.push(item, size, this.#position);
    // A snapshot could only begin again, so it is held however long it is: the definition limits it.
    if (this.#delivery.size > (this.#options.buffer ?? BUFFER) && !this.#inSnapshot && this.#connection) {
      this.#drop();
      this.#become({ name: 'paused' });
    }
  }

  /** The position is good, but what was shown up to there may not be in view any more. */
  #review(reason: string): void {
    // Another snapshot is how a stream that has one shows what is in view now.
    if (this.#options.snapshot && this.#position) this.#lose(reason || CHANGED);
    else this.#changed = true;
  }

  #lose(reason: string): void {
    this.#position = undefined;
    this.#gap = reason;
  }

  /** Tells the open connection a new token. When none can be had now the server closes, and there is another attempt. */
  async #renew(connection: Connection): Promise<void> {
    if (typeof this.#options.token !== 'function') return;
    let token;
    try {
      token = await this.#getToken(true);
    } catch {
      return;
    }
    // The same once more expires no later, and would only be answered with the next warning.
    if (this.#connection !== connection || !token || token === this.#token) return;
    this.#token = token;
    connection.send({ type: 'auth', token });
  }

  #closed(code: number, reason: string): void {
    const error = new ClosedError(code, reason);
    this.#form.closed();
    const advice = adviceOf(code);
    // The same token would only be refused. A cookie may be another one by now, and the server judges it.
    if (advice === 'stop' || (advice === 'refresh' && typeof this.#options.token === 'string')) return this.close(error);
    if (advice === 'refresh') this.#refresh = true;
    // Credentials end without a change; `ready` tells whether there is one.
    if (advice === 'refresh' && this.#view) this.#changed = true;
    else if (advice === 'refresh' || advice === 'review') this.#review(reason);
    if (advice === 'reload') this.#lose(reason || 'history lost');
    if (advice === 'step') {
      // To meet the same event once more is to be stuck before it: go on from now, and say what was lost.
      if (this.#stuck) this.#lose('an event cannot be computed, and not be stepped over');
      else this.#push({ type: 'error', code: Number(reason) || reason, position: this.#position }, 0);
      this.#stuck = !this.#stuck;
    }
    this.#failed(error);
  }

  async #refused(address: string): Promise<void> {
    clearTimeout(this.#timer);
    const connection = this.#connection;
    const refusal = await whyRefused(address, this.#token, this.#options.credentials);
    // The network may have come back meanwhile, and another attempt been made.
    if (this.#connection !== connection) return;
    if (!refusal) return this.#failed(new StreamError('the server cannot be reached'));
    if (refusal === 'accepted') {
      this.#form.failed(!!this.#token || !!this.#options.snapshot);
      return this.#failed(new StreamError('the handshake failed'));
    }
    const { error, isFinal } = refusal;
    const { status, exception, retryAfter } = error;
    if ((status === 401 || status === 403) && typeof this.#options.token === 'function' && !this.#refresh) {
      this.#refresh = true;
      return this.#again();
    }
    // The deployment has another key by now, or the stream another past: there is nothing to continue behind.
    if (exception === 'InvalidPositionException' && this.#position) {
      this.#position = undefined;
      this.#gap ??= 'the position is not valid any more';
      return this.#again();
    }
    this.#failed(error, isFinal, retryAfter);
  }

  /** Waits, then connects; or ends, when another attempt would come to the same. */
  #failed(cause: unknown, final = false, retryAfter?: number): void {
    this.#drop();
    const error = cause instanceof StreamError ? cause : new StreamError(`no token: ${cause}`, { cause });
    if (final) return this.close(error);
    const delay = this.#attempts.failed(retryAfter);
    this.#become({ name: 'waiting', delay, error });
    this.#timer = setTimeout(() => this.#again(), delay);
  }

  #checkSilence(): void {
    const connection = this.#connection;
    if (connection?.isOpen && !this.#form.isPlain && Date.now() - connection.heard > SILENCE) this.#again();
  }

  #woke(slept: number): void {
    const connection = this.#connection;
    if (this.#state.name === 'waiting') return this.#hurry();
    // What was asked for before a sleep is not answered any more.
    if (slept > 0 && this.#state.name === 'connecting' && !connection?.isOpen) return this.#again();
    if (connection?.isOpen) {
      if (!this.#form.isPlain) setTimeout(() => this.#connection === connection && this.#checkSilence(), GRACE);
      else if (slept > LONG_SLEEP) this.#again();
    }
  }
}
