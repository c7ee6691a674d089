import type { Item, Position } from './item.js';

export type Listener = (value: any) => unknown;

interface Entry<T> {
  item: Item<T>;
  size: number;
  /** Where the consumer stands once it has been handed the item. */
  position: Position | undefined;
}

interface Taker<T> {
  resolve(result: IteratorResult<Item<T>, undefined>): void;
  reject(error: unknown): void;
}

/**
 * The items on their way to the one consumer: an iteration, or listeners. A listener that returns a promise is waited for,
 * so that items stay in order and a slow consumer is felt.
 */
export class Delivery<T> {
  #queue: (Entry<T> | undefined)[] = [];
  #head = 0;
  #takers: Taker<T>[] = [];
  #listeners = new Map<string, Set<Listener>>();
  #running = false;
  #iterated = false;
  #listened = false;
  #ended = false;
  #finished = false;
  #thrown = false;
  #error: unknown;
  #taken: () => void;

  /** What waits, in characters of JSON. */
  size = 0;
  /** Behind the last item that was handed over. */
  position: Position | undefined;

  /** @param taken is told after each item that was handed over */
  constructor(taken: () => void, position: Position | undefined) {
    this.#taken = taken;
    this.position = position;
  }

  get #waiting(): number {
    return this.#queue.length - this.#head;
  }

  push(item: Item<T>, size: number, position: Position | undefined): void {
    this.#queue.push({ item, size, position });
    this.size += size;
    this.#move();
  }

  /** The stream is quiet up to here. Counts once all that came before is handed over. */
  advance(position: Position): void {
    const last = this.#queue[this.#queue.length - 1];
    if (last) last.position = position;
    else this.position = position;
  }

  /** Nothing more comes. With an error what waits is still handed over, and the error after it. */
  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    if (error === undefined) {
      this.#queue = [];
      this.#head = this.size = 0;
    }
    this.#move();
  }

  next(): Promise<IteratorResult<Item<T>, undefined>> {
    return new Promise((resolve, reject) => {
      this.#takers.push({ resolve, reject });
      this.#move();
    });
  }

  iterate(): void {
    if (this.#listened) throw new TypeError('the stream has listeners: listen to it or iterate over it');
    this.#iterated = true;
  }

  /** @returns takes the listener away */
  listen(type: string, listener: Listener): () => void {
    // Who watches the state or waits for the end takes no items.
    if (type !== 'state' && type !== 'end') {
      if (this.#iterated) throw new TypeError('the stream is being iterated over: listen to it or iterate over it');
      this.#listened = true;
    }
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    // Not before the caller has added the other listeners.
    void Promise.resolve().then(() => this.#move());
    return () => listeners.delete(listener);
  }

  /** Tells listeners at once, outside of the order of items. */
  async tell(type: string, value: unknown): Promise<void> {
    for (const listener of this.#listeners.get(type) ?? []) {
      try {
        await listener(value);
      } catch (error) {
        // A listener's fault is its own: reported as uncaught, while the others are served.
        void Promise.reject(error);
      }
    }
  }

  #take(): Entry<T> {
    const entry = this.#queue[this.#head]!;
    this.#queue[this.#head++] = undefined;
    // Shifting a long array copies it; this does so once in a while.
    if (this.#head === this.#queue.length || this.#head > 4096) {
      this.#queue.splice(0, this.#head);
      this.#head = 0;
    }
    this.size -= entry.size;
    this.position = entry.position;
    return entry;
  }

  #move(): void {
    if (this.#listened) return void this.#run();
    while (this.#takers.length && (this.#waiting || this.#ended)) {
      const taker = this.#takers.shift()!;
      if (this.#waiting) {
        taker.resolve({ done: false, value: this.#take().item });
        this.#taken();
      } else if (this.#error !== undefined && !this.#thrown) {
        this.#thrown = true;
        taker.reject(this.#error);
      } else {
        taker.resolve({ done: true, value: undefined });
      }
    }
    this.#finish();
  }

  async #run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    while (this.#waiting) {
      const { item } = this.#take();
      await this.tell(item.type, item);
      this.#taken();
    }
    this.#running = false;
    this.#finish();
  }

  /** Tells the end, once all else is handed over. An error that nobody is there to be told of is an uncaught one. */
  #finish(): void {
    if (!this.#ended || this.#finished || this.#waiting) return;
    this.#finished = true;
    if (this.#listened && this.#error !== undefined && !this.#listeners.get('end')?.size) void Promise.reject(this.#error);
    void this.tell('end', this.#error);
  }
}
