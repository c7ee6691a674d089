/** What to do after a close. All but `stop` connect again. */
export type Advice = 'resume' | 'review' | 'step' | 'reload' | 'refresh' | 'stop';

const ADVICE: Record<number, Advice> = {
  // The definition changed, or what this caller may see of it.
  4001: 'review',
  // The stream, its collection, or its database is gone.
  4002: 'stop',
  // The events between our position and now cannot be had any more.
  4004: 'reload',
  // The pipeline fails on the event behind our position (the plain form has no other way to say so).
  4010: 'step',
  // The credentials ran out, or what the stream uses of them changed.
  4401: 'refresh',
  // No longer permitted.
  4403: 'stop',
};

/**
 * The server's table of close codes. What it does not know, faults and overload among them, is like a broken line:
 * connect again, pause by pause, and continue.
 */
export function adviceOf(code: number): Advice {
  return ADVICE[code] ?? 'resume';
}
