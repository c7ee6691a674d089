// The lower end of the page: who writes, and what.

import { byId } from './element.js';
import { hue, initials } from './people.js';

const NAME = 'tailrace-chat-name';

export class Writer {
  #join = byId('join', HTMLFormElement);
  #name = byId('name', HTMLInputElement);
  #compose = byId('compose', HTMLFormElement);
  #text = byId('text', HTMLTextAreaElement);
  #me = byId('me', HTMLButtonElement);
  #options;
  #person = remembered();

  /**
   * @param {object} options
   * @param {(text: string) => void} options.written
   * @param {() => void} options.renamed
   */
  constructor(options) {
    this.#options = options;
    this.#join.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#rename();
    });
    this.#join.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.#person) this.#show(true);
    });
    this.#me.addEventListener('click', () => this.#askName());
    this.#compose.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#write();
    });
    this.#text.addEventListener('keydown', (event) => {
      // While an input method composes, Enter is its own.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#write();
    });
    this.#text.addEventListener('input', () => this.#fit());
    // On a phone, focus would open the keyboard over the conversation before anybody asked for it.
    this.#show(matchMedia('(pointer: fine)').matches);
  }

  /** The person's name; empty until it was given. */
  get person() {
    return this.#person;
  }

  focus() {
    (this.#compose.hidden ? this.#name : this.#text).focus();
  }

  #askName() {
    this.#name.value = this.#person;
    byId('name-label', HTMLLabelElement).textContent = 'Your new name';
    byId('join-go', HTMLButtonElement).textContent = 'Change';
    this.#compose.hidden = true;
    this.#join.hidden = false;
    this.#name.select();
    this.#name.focus();
  }

  #rename() {
    const name = this.#name.value.trim();
    if (!name) {
      this.#name.value = '';
      this.#name.reportValidity();
      return;
    }
    this.#person = name;
    try {
      localStorage.setItem(NAME, name);
    } catch {
      // Storage is switched off: the name holds until the page is closed.
    }
    this.#show(true);
    this.#options.renamed();
  }

  #write() {
    const text = this.#text.value.trim();
    if (text) {
      this.#text.value = '';
      this.#fit();
      this.#options.written(text);
    }
    this.#text.focus();
  }

  /** @param {boolean} focus */
  #show(focus) {
    const known = this.#person !== '';
    this.#join.hidden = known;
    this.#compose.hidden = !known;
    this.#me.hidden = !known;
    byId('me-name', HTMLElement).textContent = this.#person;
    const avatar = byId('me-avatar', HTMLElement);
    avatar.textContent = initials(this.#person);
    avatar.style.setProperty('--hue', String(hue(this.#person)));
    if (focus) this.focus();
  }

  /** Where CSS cannot let the field grow with its text (`field-sizing`), this does. */
  #fit() {
    if (CSS.supports('field-sizing', 'content')) return;
    this.#text.style.height = 'auto';
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }
}

function remembered() {
  try {
    return (localStorage.getItem(NAME) ?? '').trim();
  } catch {
    return '';
  }
}
