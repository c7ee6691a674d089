import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { WebSocketServer, type WebSocket } from 'ws';

/** What a handshake, and the plain GET after it, is refused with. */
export interface Refusal {
  status: number;
  message?: string;
  exception?: string;
  /** What is said instead of an error of the server's. */
  page?: string;
  headers?: Record<string, string>;
}

export interface Client {
  socket: WebSocket;
  url: URL;
  token: string | undefined;
  plain: boolean;
  received: unknown[];
  /** Sends a v1 message, or any text. */
  say(message: object | string): void;
}

/**
 * A server that speaks the protocol over one numbered stream, where position `p7` is behind event 7. It keeps every event,
 * so that what a client misses is the client's fault.
 */
export class FakeServer {
  readonly clients = new Set<Client>();
  /** Every handshake, refused or not. */
  readonly handshakes: { url: URL; protocols: string[] }[] = [];
  readonly questions: { url: URL; authorization: string | undefined }[] = [];
  refuse: (token: string | undefined, url: URL) => Refusal | undefined = () => undefined;
  /** What is done with a client that was let in; unless replaced it gets `ready` and what it missed. */
  greet = (client: Client): void => this.welcome(client);
  knowsV1 = true;
  knowsProtocols = true;
  knowsPositions = true;
  snapshot: object[] = [];
  /** What `ready` says is shown; nothing, as a server of before. */
  view: unknown;
  /** What else there is to read. */
  readonly pages: Record<string, unknown> = {};
  count = 0;

  #http = createServer();
  #sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => [...offered].find((name) => this.#knows(name)) ?? false,
  });

  static async start(): Promise<FakeServer> {
    const server = new FakeServer();
    await server.listen(0);
    return server;
  }

  private constructor() {
    this.#http.on('request', (request, response) => {
      response.setHeader('Access-Control-Allow-Origin', '*');
      response.setHeader('Access-Control-Allow-Headers', 'Authorization');
      if (request.method === 'OPTIONS') return response.end();
      const url = this.#urlOf(request);
      if (url.pathname in this.pages) return response.end(JSON.stringify(this.pages[url.pathname]));
      const { authorization } = request.headers;
      this.questions.push({ url, authorization });
      const refusal = this.refuse(authorization?.slice('Bearer '.length), url) ?? {
        status: 400,
        message: 'Change Stream requires WebSocket or SSE',
        exception: 'ChangeStreamRequiresUpgradeException',
      };
      response.writeHead(refusal.status, { 'Content-Type': 'application/json', ...refusal.headers });
      return response.end(bodyOf(refusal));
    });
    this.#http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket as Socket, head));
  }

  async listen(port: number): Promise<void> {
    this.#http.listen(port, '127.0.0.1');
    await once(this.#http, 'listening');
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}/numbers/_streams/all`;
  }

  get client(): Client {
    const client = [...this.clients].at(-1);
    if (!client) throw new Error('there is no client');
    return client;
  }

  /** Inserts the next number. */
  publish(more: object = {}): void {
    const number = ++this.count;
    this.#log.push(more);
    for (const client of this.clients) this.sendEvent(client, number);
  }

  /** The number after the last one is a message of another kind. */
  tell(message: object): void {
    this.publish({ message });
  }

  sendEvent(client: Client, number: number): void {
    const position = `p${number}`;
    const more = this.#log[number - 1]!;
    if ('message' in more) return client.say({ ...(more.message as object), position });
    const event = {
      fullDocument: { _id: number },
      documentKey: { _id: number },
      updateDescription: null,
      operationType: 'insert',
      ...more,
    };
    const wantsPosition = this.knowsPositions && client.url.searchParams.get('position') === 'true';
    if (client.plain) client.say(wantsPosition ? { ...event, position } : event);
    else client.say({ type: 'event', position, event });
  }

  welcome(client: Client): void {
    const after = client.url.searchParams.get('resumeAfter');
    const wantsSnapshot = client.url.searchParams.get('snapshot') === 'true';
    // Ahead of what a returning client has yet to be sent: a client that took it as its own would lose that.
    if (!client.plain) client.say({ type: 'ready', position: `p${this.count}`, view: this.view });
    if (wantsSnapshot) {
      for (const document of this.snapshot) client.say({ type: 'snapshot', document });
      client.say({ type: 'snapshotEnd', position: `p${this.count}` });
    }
    if (after) for (let number = Number(after.slice(1)) + 1; number <= this.count; number++) this.sendEvent(client, number);
    this.clients.add(client);
  }

  /** Closes every connection. Code 1006 is a connection that breaks. */
  cut(code = 1006, reason = ''): void {
    for (const { socket } of this.clients) {
      if (code === 1006) socket.terminate();
      else socket.close(code, reason);
    }
    this.clients.clear();
  }

  async stop(): Promise<void> {
    this.cut();
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#http.closeAllConnections();
    this.#http.close();
    await once(this.#http, 'close');
  }

  #log: object[] = [];

  #knows(protocol: string): boolean {
    return this.knowsProtocols && (protocol === 'tailrace.plain' || (this.knowsV1 && protocol === 'tailrace.v1.json'));
  }

  #urlOf(request: IncomingMessage): URL {
    return new URL(request.url ?? '/', 'ws://server');
  }

  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    const url = this.#urlOf(request);
    const protocols = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
    this.handshakes.push({ url, protocols });
    const token = protocols.find((name) => name.startsWith('bearer.'))?.slice('bearer.'.length);
    const refusal = this.refuse(token, url);
    if (refusal) {
      const body = bodyOf(refusal);
      socket.end(`HTTP/1.1 ${refusal.status} Refused\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
      return;
    }
    this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
      const client: Client = {
        socket: webSocket,
        url,
        token,
        plain: webSocket.protocol !== 'tailrace.v1.json',
        received: [],
        say: (message) => webSocket.send(typeof message === 'string' ? message : JSON.stringify(message)),
      };
      webSocket.on('message', (data) => client.received.push(JSON.parse(String(data))));
      webSocket.on('close', () => this.clients.delete(client));
      this.greet(client);
    });
  }
}

function bodyOf({ status, message = '', exception = 'Exception', page }: Refusal): string {
  return page ?? JSON.stringify({
    'http status code': status,
    message,
    _exceptions: [{ exception, 'exception message': message }],
  });
}
