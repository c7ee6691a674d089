import { Delivery } from './delivery.js';
import type { Enter, Event, Failure, Gap, Item, Leave, Position, Ready, Snapshot, SnapshotEnd } from './item.js';
import type { WatchOptions } from './options.js';
import { Session, type State } from './session.js';

/** What a listener of each kind is given. */
export interface StreamEvents<T> {
  ready: Ready;
  snapshot: Snapshot<T>;
  snapshotEnd: SnapshotEnd;
  event: Event<T>;
  enter: Enter<T>;
  leave: Leave;
  gap: Gap;
  error: Failure;
  /** The connection's state, at once and outside of the order of items. */
  state: State;
  /** Nothing more comes: undefined after `close()` or an abort, else the error that ended it. */
  end: unknown;
}

/** A live stream, for one consumer: iterate over it, or listen to it. */
export class Stream<T> implements AsyncIterable<Item<T>, undefined> {
  #delivery: Delivery<T>;
  #session: Session<T>;

  /** @see watch */
  constructor(url: string | URL, options: WatchOptions) {
    this.#delivery = new Delivery(() => this.#session.taken(), options.resumeAfter);
    this.#session = new Session(url, options, this.#delivery, (state) => void this.#delivery.tell('state', state));
  }

  /** Behind the last item that the consumer was handed; undefined before the first, and in a snapshot. */
  get position(): Position | undefined {
    return this.#delivery.position;
  }

  /** What the connection is doing. */
  get state(): State {
    return this.#session.state;
  }

  /**
   * Listens. A listener that returns a promise is waited for before the next item.
   *
   * @returns takes the listener away
   */
  on<K extends keyof StreamEvents<T>>(type: K, listener: (value: StreamEvents<T>[K]) => unknown): () => void {
    return this.#delivery.listen(type, listener);
  }

  /** Makes the next attempt now, where one is waited for: what a button `Try now` calls. */
  retry(): void {
    this.#session.retry();
  }

  /** Ends the stream. Nothing more is handed over. */
  close(): void {
    this.#session.close();
  }

  /** Leaving the loop closes the stream. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Item<T>, undefined> {
    this.#delivery.iterate();
    const end = () => {
      this.close();
      return Promise.resolve({ done: true as const, value: undefined });
    };
    const iterator: AsyncIterableIterator<Item<T>, undefined> = {
      next: () => this.#delivery.next(),
      return: end,
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }
}
