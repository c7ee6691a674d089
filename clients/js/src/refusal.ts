import { RefusedError } from './errors.js';

const TIMEOUT = 10_000;
/** The answer of a stream that could be opened. */
const ACCEPTED = /^Change Stream requires/;

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
): Promise<RefusedError | 'accepted' | undefined> {
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
      // A proxy's page: the status alone counts.
    }
    const message: string = body?.message ?? `the server answered ${answer.status}`;
    if (ACCEPTED.test(message)) return 'accepted';
    const exception = body?._exceptions?.[0]?.exception;
    return new RefusedError(message, answer.status, exception, seconds(answer.headers.get('Retry-After')));
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

/** Whether the same request would be answered alike however often it is made. */
export function isFinal({ status }: RefusedError): boolean {
  return status >= 400 && status < 500 && ![408, 425, 429].includes(status);
}

/** `Retry-After` is seconds or a date (RFC 9110, section 10.2.3). */
function seconds(header: string | null): number | undefined {
  if (!header) return undefined;
  const number = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Math.max(0, number) || undefined;
}
