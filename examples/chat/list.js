// The list of messages on the page: rows by key, days between them, and the place where the reader is.

import { byId, make } from './element.js';
import { dayInWords, dayOf, momentOf, timeOf } from './moments.js';
import { hue, initials } from './people.js';

/**
 * @typedef {object} Row
 * @property {string} key
 * @property {string} from
 * @property {string} text
 * @property {number} at milliseconds since 1970
 * @property {boolean} own
 * @property {'shown' | 'sending' | 'sent' | 'failed'} state
 * @property {string} [reason] why it failed
 */

// Messages of one person within this time are one group.
const GROUP = 5 * 60_000;
// Nearer to the end than this counts as being at the end, in pixels.
const NEAR = 60;

export class List {
  #scroller = byId('scroller', HTMLElement);
  #messages = byId('messages', HTMLOListElement);
  #jump = byId('jump', HTMLButtonElement);
  /** @type {Map<string, HTMLLIElement>} */
  #elements = new Map();
  #atEnd = true;
  #missed = 0;
  #painted = false;

  /** @param {{ retry: (key: string) => void, discard: (key: string) => void }} actions */
  constructor(actions) {
    this.#scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#jump.addEventListener('click', () => {
      this.toEnd(true);
      this.#scroller.focus({ preventScroll: true });
    });
    this.#messages.addEventListener('click', ({ target }) => {
      if (!(target instanceof HTMLButtonElement)) return;
      const key = target.closest('li')?.dataset.key ?? '';
      if (target.dataset.action === 'retry') actions.retry(key);
      if (target.dataset.action === 'discard') actions.discard(key);
    });
    // The writing field grows, or a phone's keyboard opens: who reads the end goes on reading the end.
    new ResizeObserver(() => this.#atEnd && this.toEnd(false)).observe(this.#scroller);
  }

  /** Whether the reader is at the end and sees what arrives. */
  get atEnd() {
    return this.#atEnd;
  }

  /**
   * The entry that was shown under `from` is now the message `to`: the row stays as it is.
   * @param {string} from
   * @param {string} to
   */
  adopt(from, to) {
    const element = this.#elements.get(from);
    if (!element || this.#elements.has(to)) return;
    this.#elements.delete(from);
    this.#elements.set(to, element);
  }

  /** Another message arrived below what the reader sees. */
  missed() {
    this.#missed += 1;
    this.#showJump();
  }

  /** @param {boolean} smooth */
  toEnd(smooth) {
    this.#atEnd = true;
    this.#missed = 0;
    this.#showJump();
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    this.#scroller.scrollTo({ top: this.#scroller.scrollHeight, behavior: smooth && !still ? 'smooth' : 'instant' });
  }

  /**
   * @param {Row[]} rows oldest first
   * @param {number} now milliseconds since 1970
   */
  show(rows, now) {
    const anchor = this.#atEnd ? undefined : this.#anchor();
    /** @type {Map<string, HTMLLIElement>} */
    const elements = new Map();
    let place = this.#messages.firstElementChild;
    /** @type {Row | undefined} */
    let previous;
    rows.forEach((row, index) => {
      const next = rows[index + 1];
      const newDay = !previous || dayOf(previous.at) !== dayOf(row.at);
      const elementsOfRow = newDay ? [this.#day(row, now, elements)] : [];
      elementsOfRow.push(this.#row(row, newDay || !together(previous, row), !next || !together(row, next), elements));
      for (const element of elementsOfRow) {
        if (element === place) place = place.nextElementSibling;
        else this.#messages.insertBefore(element, place);
      }
      previous = row;
    });
    for (const [key, element] of this.#elements) if (!elements.has(key)) element.remove();
    this.#elements = elements;
    this.#painted ||= rows.length > 0;

    if (anchor) this.#scroller.scrollTop += anchor.element.getBoundingClientRect().top - anchor.top;
    else if (this.#atEnd) this.toEnd(false);
  }

  /**
   * @param {Row} row
   * @param {number} now
   * @param {Map<string, HTMLLIElement>} elements
   */
  #day(row, now, elements) {
    // A person's wrong clock may bring a day back: the count keeps the keys apart.
    let key = `day ${dayOf(row.at)}`;
    while (elements.has(key)) key += '+';
    const element = this.#elements.get(key) ?? make('li', 'day', make('time', ''));
    const time = /** @type {HTMLTimeElement} */ (element.firstElementChild);
    time.dateTime = dayOf(row.at);
    time.textContent = dayInWords(row.at, now);
    elements.set(key, element);
    return element;
  }

  /**
   * @param {Row} row
   * @param {boolean} first of its group
   * @param {boolean} last of its group
   * @param {Map<string, HTMLLIElement>} elements
   */
  #row(row, first, last, elements) {
    const known = this.#elements.get(row.key);
    const element = known ?? make('li', '');
    element.dataset.key = row.key;
    const fresh = known ? element.classList.contains('fresh') : this.#painted && this.#atEnd;
    element.className = 'message';
    element.classList.toggle('own', row.own);
    element.classList.toggle('first', first);
    element.classList.toggle('last', last);
    element.classList.toggle('fresh', fresh);
    element.classList.toggle('failed', row.state === 'failed');
    element.classList.toggle('sending', row.state === 'sending');

    const content = JSON.stringify([row.from, row.text, row.at, row.own, row.state, row.reason]);
    if (element.dataset.content !== content) {
      element.dataset.content = content;
      element.replaceChildren(...parts(row));
      element.style.setProperty('--hue', String(hue(row.from)));
    }
    elements.set(row.key, element);
    return element;
  }

  /** The first message that the reader sees, and where it is: it must not move when others come above it. */
  #anchor() {
    const top = this.#scroller.getBoundingClientRect().top;
    for (const element of this.#messages.querySelectorAll('.message')) {
      const box = element.getBoundingClientRect();
      if (box.bottom > top) return { element, top: box.top };
    }
    return undefined;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (this.#atEnd) this.#missed = 0;
    this.#showJump();
  }

  #showJump() {
    this.#jump.hidden = this.#atEnd;
    this.#jump.dataset.missed = String(this.#missed > 0);
    this.#jump.textContent =
      this.#missed === 0 ? 'Newest' : this.#missed === 1 ? '1 new message' : `${this.#missed} new messages`;
  }
}

/**
 * @param {Row | undefined} a
 * @param {Row} b
 */
function together(a, b) {
  return a?.from === b.from && Math.abs(b.at - a.at) < GROUP && dayOf(a.at) === dayOf(b.at);
}

/** @param {Row} row */
function parts(row) {
  const avatar = make('span', 'avatar', initials(row.from));
  avatar.setAttribute('aria-hidden', 'true');

  const author = make('p', 'author', row.own ? 'You' : row.from);
  const time = make('time', 'time', timeOf(row.at));
  time.dateTime = new Date(row.at).toISOString();
  time.title = momentOf(row.at);
  const text = make('p', 'text', row.text);
  text.dir = 'auto';
  const bubble = make('div', 'bubble', author, text, time);

  if (row.state === 'sending') {
    const sending = make('span', 'unseen', 'Sending');
    return [avatar, bubble, sending];
  }
  if (row.state !== 'failed') return [avatar, bubble];

  const again = make('button', 'plain', 'Retry');
  const away = make('button', 'plain', 'Discard');
  for (const [button, action] of /** @type {const} */ ([[again, 'retry'], [away, 'discard']])) {
    button.type = 'button';
    button.dataset.action = action;
  }
  const fault = make('p', 'fault', `Not sent: ${row.reason}. `, again, ' ', away);
  fault.setAttribute('role', 'alert');
  return [avatar, bubble, fault];
}
