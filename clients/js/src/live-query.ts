import { watch, type ChangeEvent, type Stream, type WatchOptions } from './index.js';
import { pause } from './backoff.js';
import { keyOf } from './key.js';
import { updated } from './update.js';

/** A stream that lasted this long, in milliseconds, has no habit of events that cannot be computed. */
const CALM = 60_000;

export interface LiveQueryOptions<T, Complete extends boolean = false> extends WatchOptions {
  /**
   * Reads the current documents, where the definition allows no snapshot: called when the stream is open, and again when
   * what is here may be wrong. Events wait meanwhile, and the ones that it already shows are applied again, which comes to the same.
   */
  load?: ((signal: AbortSignal) => Promise<Iterable<T>>) | undefined;
  /** The order of `documents`; that of their arrival unless given. */
  compare?: ((a: T, b: T) => number) | undefined;
  /**
   * Your promise that the stream tells of every document that leaves: the collection records pre- and post-images and the
   * stream has a view, which brings `leave`; or its stages let deletes pass, and match on nothing that can change. Another
   * stream that matches on `fullDocument` tells of neither, and the documents that left stay here.
   */
  complete?: Complete | undefined;
}

/** A state of the collection. It never changes: each change makes a new one. */
export interface LiveDocuments<T, Complete extends boolean = boolean> {
  readonly documents: readonly T[];
  /**
   * `loading` until the current documents are here. `stale` while they are loaded anew: events were lost or could not be
   * computed, or the definition or the caller's rights changed.
   */
  readonly status: 'loading' | 'live' | 'stale' | 'closed';
  /** False where documents may be shown that the stream's filter would not show any more. */
  readonly complete: Complete;
  /** What ended the query, or made its last `load` fail; that one is tried again. */
  readonly error?: unknown;
}

/** A keyed collection that follows a stream. */
export class LiveQuery<T, Complete extends boolean = boolean> {
  #url: string | URL;
  #stream!: Stream<T>;
  /** Stops listening to the stream's state. */
  #unwatch!: () => void;
  /** Times in a row that the stream was begun anew because of an event that could not be computed. */
  #renewals = 0;
  #begun = 0;
  #options: LiveQueryOptions<T, Complete>;
  #documents = new Map<string, T>();
  #status: LiveDocuments<T>['status'] = 'loading';
  #error: unknown;
  #state: LiveDocuments<T, Complete> | undefined;
  #listeners = new Set<() => void>();
  #telling = false;
  #abort = new AbortController();

  /** @see liveQuery */
  constructor(url: string | URL, options: LiveQueryOptions<T, Complete>) {
    if (options.complete && !options.snapshot && !options.load) {
      throw new TypeError('a query that reads no current documents is not complete: give it snapshot or load');
    }
    this.#url = url;
    this.#options = options;
    this.#open(options);
    void this.#follow();
  }

  /** The current state: the same object until something changes. */
  get state(): LiveDocuments<T, Complete> {
    const { compare, complete } = this.#options;
    if (!this.#state) {
      const documents = [...this.#documents.values()];
      if (compare) documents.sort(compare);
      this.#state = {
        documents,
        status: this.#status,
        complete: (complete ?? false) as Complete,
        ...(this.#error !== undefined && { error: this.#error }),
      };
    }
    return this.#state;
  }

  /** The document with this `_id`, as the stream's JSON writes it. */
  get(id: unknown): T | undefined {
    return this.#documents.get(keyOf(id));
  }

  /**
   * Calls the listener after changes, once for those that come together.
   *
   * @returns takes the listener away
   */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends the stream; the documents stay as they are. */
  close(): void {
    this.#abort.abort();
    this.#stream.close();
  }

  #open(options: WatchOptions): void {
    this.#begun = Date.now();
    this.#stream = watch<T>(this.#url, options);
    this.#unwatch = this.#stream.on('state', ({ name }) => name === 'closed' && this.#abort.abort());
  }

  async #follow(): Promise<void> {
    try {
      while ((await this.#read()) && !this.#abort.signal.aborted) this.#open({ ...this.#options, resumeAfter: undefined });
    } catch (error) {
      this.#error = error;
    }
    this.#become('closed');
  }

  /** @returns whether the stream has to begin anew; else it has ended */
  async #read(): Promise<boolean> {
    const { snapshot: hasSnapshot, load } = this.#options;
    // A snapshot is shown once it is whole; until then the documents of before it are.
    let snapshot = new Map<string, T>();
    for await (const item of this.#stream) {
      switch (item.type) {
        case 'ready':
          snapshot = new Map();
          if (item.changed) this.#doubt();
          if ((!item.resumed || item.changed) && !hasSnapshot) await this.#load();
          break;
        case 'snapshot':
          snapshot.set(idOf(item.document), item.document);
          break;
        case 'snapshotEnd':
          this.#become('live', snapshot);
          break;
        case 'gap':
          this.#doubt();
          break;
        case 'event':
        case 'enter':
          if (this.#apply(item.event)) this.#changed();
          break;
        case 'leave':
          if (this.#documents.delete(keyOf(item.documentKey._id))) this.#changed();
          break;
        case 'error':
          this.#doubt();
          // What is read then is behind this event, and behind all that fail meanwhile.
          if ((hasSnapshot || load) && (await this.#mayRenew())) {
            // Leaving the loop closes this stream, and not the query.
            this.#unwatch();
            return true;
          }
      }
    }
    return false;
  }

  /** What is here may be wrong. */
  #doubt(): void {
    if (this.#status === 'live') this.#become('stale');
  }

  /** Waits, the longer the more often it was waited for in a row. @returns false when the query was closed meanwhile */
  async #mayRenew(): Promise<boolean> {
    if (Date.now() - this.#begun > CALM) this.#renewals = 0;
    await this.#wait(pause(this.#renewals++));
    return !this.#abort.signal.aborted;
  }

  async #wait(milliseconds: number): Promise<void> {
    const { signal } = this.#abort;
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      signal.addEventListener('abort', done);
    });
  }

  async #load(): Promise<void> {
    const { load } = this.#options;
    // With no way to read them, what a gap made stale stays so.
    if (!load) return this.#become(this.#status === 'stale' ? 'stale' : 'live');
    for (let failures = 0; !this.#abort.signal.aborted; failures++) {
      try {
        const documents = new Map<string, T>();
        for (const document of await load(this.#abort.signal)) documents.set(idOf(document), document);
        this.#error = undefined;
        return this.#become('live', documents);
      } catch (error) {
        this.#error = error;
        this.#changed();
      }
      await this.#wait(pause(failures));
    }
  }

  /** @returns whether it changed anything */
  #apply(event: ChangeEvent<T>): boolean {
    const { operationType, documentKey, fullDocument, updateDescription } = event;
    if (operationType === 'drop' || operationType === 'dropDatabase') {
      this.#documents.clear();
      return true;
    }
    const key = keyOf(documentKey?._id);
    if (operationType === 'delete') return this.#documents.delete(key);
    if (fullDocument) {
      this.#documents.set(key, fullDocument);
      return true;
    }
    const old = this.#documents.get(key);
    if (old === undefined || !updateDescription) return false;
    this.#documents.set(key, updated(old, updateDescription));
    return true;
  }

  #become(status: LiveDocuments<T>['status'], documents = this.#documents): void {
    this.#status = status;
    this.#documents = documents;
    this.#changed();
  }

  #changed(): void {
    this.#state = undefined;
    if (this.#telling) return;
    this.#telling = true;
    // Behind all that waits already: a burst of events is one change to who draws it.
    setTimeout(() => {
      this.#telling = false;
      for (const listener of this.#listeners) listener();
    });
  }
}

function idOf(document: unknown): string {
  return keyOf((document as { _id?: unknown })._id);
}

/**
 * Keeps the documents of a stream: those of its snapshot (`snapshot: true`) or of `load`, and all changes behind them.
 *
 * Without recorded images a filter can make a document leave without a word. So `complete` is false, unless you promise that
 * this stream's does not.
 */
export function liveQuery<T = Record<string, unknown>, Complete extends boolean = false>(
  url: string | URL,
  options: LiveQueryOptions<T, Complete> = {},
): LiveQuery<T, Complete> {
  return new LiveQuery(url, options);
}
