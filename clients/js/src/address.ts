/** Where a stream is. */
export class Address {
  #url: URL;

  /**
   * @param url `ws:`, `wss:`, `http:` or `https:`; in a page also a path
   * @throws TypeError when it is none of these
   */
  constructor(url: string | URL, parameters: Record<string, string | undefined>) {
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace(/^http/, 'ws');
    if (!/^wss?:$/.test(this.#url.protocol)) {
      throw new TypeError(`${url} is no address of a stream, expected one that begins with wss: or https:`);
    }
    this.#url.hash = '';
    for (const [name, value] of Object.entries(parameters)) {
      if (value !== undefined) this.#url.searchParams.set(name, value);
    }
  }

  /** The stream's own parameters and these. */
  socket(parameters: Record<string, string | undefined>): string {
    return new Address(this.#url, parameters).#url.href;
  }
}
