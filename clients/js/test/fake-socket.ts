/** A WebSocket whose other end is the test: everything happens at once, and no network takes time. */
export class FakeSocket {
  static made: FakeSocket[] = [];
  static get last(): FakeSocket {
    return FakeSocket.made.at(-1)!;
  }

  protocol = 'tailrace.v1.json';
  isClosed = false;
  readonly url: URL;
  #listeners = new Map<string, (event: any) => void>();

  constructor(url: string, readonly protocols: string[]) {
    this.url = new URL(url);
    FakeSocket.made.push(this);
  }

  addEventListener(type: string, listener: (event: any) => void): void {
    this.#listeners.set(type, listener);
  }

  send(): void {}

  close(): void {
    this.isClosed = true;
  }

  open(protocol = this.protocol): void {
    this.protocol = protocol;
    this.#listeners.get('open')?.({});
    if (protocol !== 'tailrace.plain') this.say({ type: 'ready', position: 'p0' });
  }

  say(message: object): void {
    this.#listeners.get('message')?.({ data: JSON.stringify(message) });
  }

  end(code: number): void {
    this.#listeners.get('close')?.({ code, reason: '' });
  }
}
