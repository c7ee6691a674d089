// What the stream's connection is doing, in words. The client of Tailrace keeps it open; this only tells of it.

import { ClosedError } from './tailrace/index.js';

/** @typedef {import('./tailrace/index.js').State} State */

/** @type {Map<number, string>} */
const REASONS = new Map([
  [1001, 'The server restarts.'],
  [1013, 'The server is overloaded.'],
  [4001, 'The stream was changed.'],
  [4002, 'The conversation is gone.'],
  [4003, 'This connection was too slow.'],
  [4004, 'Messages were missed; reading them again.'],
  [4401, 'The session expired.'],
  [4403, 'You may no longer read this conversation.'],
]);

export class Connection {
  /** @type {'connecting' | 'open' | 'waiting' | 'stopped'} */
  name = 'connecting';
  /** Why it is not open; empty while nothing is known to be wrong. */
  reason = '';

  /** @param {State} state */
  become(state) {
    this.name = state.name === 'closed' ? 'stopped' : state.name === 'paused' ? 'waiting' : state.name;
    // Of an attempt that is under way one knows only what became of the last.
    if (state.name !== 'connecting') this.reason = 'error' in state ? inWords(state.error) : '';
  }
}

/** @param {unknown} error */
function inWords(error) {
  if (error instanceof ClosedError) return REASONS.get(error.code) ?? 'The connection was lost.';
  const text = error instanceof Error ? error.message : String(error);
  return text && text[0]?.toUpperCase() + text.slice(1).replace(/\.?$/, '.');
}
