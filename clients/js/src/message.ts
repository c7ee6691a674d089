import type { ChangeEvent, DocumentKey, Position, View } from './item.js';

/** The protocol in which this client prefers to be spoken to, and the one that every server knows. */
export const V1 = 'tailrace.v1.json';
export const PLAIN = 'tailrace.plain';

/** What the server says. Types that are not known here are ignored, so that it can learn new ones. */
export type Message<T> =
  | { type: 'ready'; position: Position; view?: View }
  | { type: 'snapshotEnd' | 'keepalive'; position: Position }
  | { type: 'snapshot'; document: T }
  | { type: 'event'; position?: Position; event: ChangeEvent<T> }
  | { type: 'enter'; position: Position; event: ChangeEvent<T> }
  | { type: 'leave'; position: Position; documentKey: DocumentKey }
  | { type: 'gap'; reason: string; position: Position }
  | { type: 'error'; code: number | string; position: Position }
  | { type: 'expiring' };

/** Reads one text message; in the plain form it is the event itself, with its position as one more member. */
export function read<T>(text: string, plain: boolean): Message<T> {
  const value = JSON.parse(text);
  if (!plain) return value;
  const { position, ...event } = value;
  // A server of before positions ignores the wish for them, and a member of that name is then the definition's own.
  return typeof position === 'string' ? { type: 'event', position, event } : { type: 'event', event: value };
}
