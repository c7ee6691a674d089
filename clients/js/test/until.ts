import { setTimeout as sleep } from 'node:timers/promises';

/** Waits for a condition, with a deadline in milliseconds. */
export async function until(what: string, condition: () => boolean, deadline = 10_000): Promise<void> {
  const end = Date.now() + deadline;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within ${deadline} ms: ${what}`);
    await sleep(5);
  }
}
