const FIRST = 500;
const LONGEST = 30_000;
/** A server may ask for more patience than ours, not for any: a timer holds 24 days. */
const MOST = 3_600_000;

/** What of a pause the server asked for, in milliseconds, from seconds. */
export function asked(retryAfter = 0): number {
  return Math.min(retryAfter * 1000, MOST);
}

/**
 * How long to wait before the next attempt, in milliseconds. All of it is random, so that the clients of a node that went
 * away do not come back together; the range doubles with each failure in a row.
 *
 * @param failures attempts in a row that came to nothing
 * @param retryAfter what the server asks for, in seconds: a floor, with the random part on top
 */
export function pause(failures: number, retryAfter = 0, random = Math.random()): number {
  return asked(retryAfter) + Math.min(LONGEST, FIRST * 2 ** failures) * random;
}
