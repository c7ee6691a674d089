import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A network that can stop without a word, as radio does: connections stay, and nothing passes. */
export class TcpProxy {
  #sockets = new Set<Socket>();
  #stopped = false;
  /** How many connections there have been. */
  accepted = 0;
  #server = createServer((near) => {
    this.accepted++;
    const far = connect(this.to, '127.0.0.1');
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on('data', (data) => into.write(data));
      from.on('error', () => {});
      from.on('close', () => {
        this.#sockets.delete(from);
        into.destroy();
      });
      if (this.#stopped) from.pause();
    }
  });

  private constructor(private to: number) {}

  static async before(port: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(port);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  stall(): void {
    this.#stopped = true;
    for (const socket of this.#sockets) socket.pause();
  }

  flow(): void {
    this.#stopped = false;
    for (const socket of this.#sockets) socket.resume();
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
