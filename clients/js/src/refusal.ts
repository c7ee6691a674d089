import { RefusedError } from './errors.js';

const TIMEOUT = 10_000;
/** The answer of a stream that could be opened. */
const ACCEPTED = /^Change Stream requires/;
/** The member by which Tailrace's, and RESTHeart's, errors are known. */
const STATUS = 'http status code';
/** These are about the request alone, and come without a body: of RESTHeart the first, of any server that cannot read a head the others. */
const ALWAYS_FINAL = [401, 414, 431];
/** These are about the moment. */
const NEVER_FINAL = [408, 425, 429];

export interface Refusal {
  error: RefusedError;
  /** Whether the same request would be answered alike however often it is made. */
  isFinal: boolean;
}

/**
 * Asks by a plain GET why a handshake failed: a WebSocket shows no status and no body.
 *
 * @param address the one that the socket used, `ws:` or `wss:`
 * @returns `accepted` when it would be accepted now, undefined when no answer came
 */
export async function whyRefused(
  address: string,
  token: string | undefined,
  credentials: RequestCredentials | undefined,
): Promise<Refusal | 'accepted' | undefined> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), TIMEOUT);
  try {
    const answer = await fetch(address.replace(/^ws/, 'http'), {
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      signal: controller.signal,
      // Neither member is known everywhere: Workers take no `cache`, and refuse an undefined `credentials`.
      ...(credentials && { credentials }),
    });
    const text = await answer.text();
    let body;
    try {
      body = JSON.parse(text);
    } catch {
      // A proxy's page.
    }
    const message: string = body?.message ?? `the server answered ${answer.status}`;
    if (ACCEPTED.test(message)) return 'accepted';
    const { status } = answer;
    const exception = body?._exceptions?.[0]?.exception;
    return {
      error: new RefusedError(message, status, exception, seconds(answer.headers.get('Retry-After'))),
      // A proxy may know no such address for as long as the server behind it is replaced: only the server's own word counts.
      isFinal: ALWAYS_FINAL.includes(status) || (body?.[STATUS] === status && status < 500 && !NEVER_FINAL.includes(status)),
    };
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

/** `Retry-After` is seconds or a date (RFC 9110, section 10.2.3). */
function seconds(header: string | null): number | undefined {
  if (!header) return undefined;
  const number = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Math.max(0, number) || undefined;
}
