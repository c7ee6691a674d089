// The web chat: a stream for what happens, the document API for what was written, and nothing else.

import { Api, apiAddress } from './api.js';
import { Connection } from './connection.js';
import { byId } from './element.js';
import { List } from './list.js';
import { Messages } from './messages.js';
import { Outbox } from './outbox.js';
import { watch } from './tailrace/index.js';
import { Writer } from './writer.js';

/** @typedef {import('./api.js').Document} Document */
/** @typedef {import('./messages.js').Message} Message */

const PAGE = 15;
// After a time without connection: pages are larger, and so many at most. What lies further back leaves the page again.
const CATCH_UP = { size: 100, pages: 5 };
// Between two reads that fail, in milliseconds: at first, and at most.
const PAUSE = { first: 500, longest: 15_000 };

const state = byId('state', HTMLElement);
const notice = byId('notice', HTMLElement);
const noticeText = byId('notice-text', HTMLElement);
const noticeAction = byId('notice-action', HTMLButtonElement);
const earlier = byId('earlier', HTMLButtonElement);
const announcer = byId('announcer', HTMLElement);

/** @param {Api} api */
function chat(api) {
  const messages = new Messages();
  const outbox = new Outbox({
    send: (entry) => api.send(entry),
    stored: (entry, id) => {
      if (id === undefined) return;
      const document = { _id: id, from: entry.from, message: entry.text, timestamp: { $date: entry.at } };
      // The stream may have been faster, and its document is the server's own.
      const message = messages.add(document);
      if (message) outbox.settle(message);
      if (message) list.adopt(entry.key, message.key);
    },
    changed: show,
  });
  const list = new List({
    retry: (key) => outbox.retry(key, Date.now()),
    discard: (key) => {
      outbox.discard(key);
      writer.focus();
    },
  });
  const writer = new Writer({
    written: (text) => {
      outbox.add(writer.person, text, Date.now());
      list.toEnd(false);
    },
    renamed: show,
  });
  const connection = new Connection();

  /** Counts the reads of the newest messages: only the latest goes on. */
  let reads = 0;
  let read = false;
  /** Whether nothing lies between what was read and what the stream brings. */
  let seamless = false;
  let readFault = '';
  let loadingEarlier = false;
  let unread = 0;

  function show() {
    const person = writer.person;
    const rows = [
      ...messages.list.map((message) => ({ ...message, own: message.from === person, state: /** @type {const} */ ('shown') })),
      ...outbox.list.map((entry) => ({ ...entry, own: true })),
    ];
    earlier.hidden = !read || messages.complete;
    byId('beginning', HTMLElement).hidden = !read || !messages.complete || rows.length === 0;
    byId('empty', HTMLElement).hidden = !read || rows.length > 0;
    list.show(rows, Date.now());
  }

  function showConnection() {
    const { name, reason } = connection;
    const words = { connecting: read ? 'Reconnecting…' : 'Connecting…', open: 'Live', waiting: 'Reconnecting…', stopped: 'Not connected' };
    state.dataset.state = name === 'open' && readFault ? 'waiting' : name;
    const told = words[name];
    if (state.textContent !== told) state.textContent = told;

    const trouble = name === 'open' ? readFault : reason;
    notice.hidden = !trouble || (name === 'connecting' && notice.hidden);
    if (noticeText.textContent !== trouble) noticeText.textContent = trouble;
    noticeAction.textContent = name === 'stopped' ? 'Connect again' : 'Try now';
  }

  /**
   * Opens the stream, which stays open by itself from then on.
   * @param {string} [position] behind which it continues
   */
  function follow(position) {
    /** @type {import('./tailrace/index.js').Stream<Document>} */
    const stream = watch(api.streamAddress, { resumeAfter: position });
    changed(stream.state);
    stream.on('state', changed);
    stream.on('ready', ({ resumed }) => {
      // Read only once the stream is open: what is written between the two would be in neither. A stream that continues
      // where it was brings what was written meanwhile by itself.
      seamless &&= resumed;
      if (!seamless) void readNewest();
    });
    stream.on('event', ({ event }) => arrived(event));
    // The stream cannot show an event; what it was about can be read.
    stream.on('error', () => void readNewest());
    // Its state has told why.
    stream.on('end', () => {});
    return stream;
  }

  /** @param {import('./tailrace/index.js').State} now */
  function changed(now) {
    connection.become(now);
    showConnection();
    // It does not open: what there is can be shown all the same.
    if ((connection.name === 'waiting' || connection.name === 'stopped') && !read) void readNewest();
  }

  async function readNewest() {
    const mine = ++reads;
    const live = connection.name === 'open';
    for (let failures = 0; ; failures += 1) {
      const reading = messages.begin();
      try {
        const { documents, complete } = await newestDocuments();
        if (mine !== reads) return messages.abandon(reading);
        const again = read;
        read = true;
        seamless = live;
        readFault = '';
        for (const message of messages.finishNewest(reading, documents, complete)) {
          settle(message);
          if (again) told(message);
        }
        showConnection();
        return show();
      } catch (error) {
        messages.abandon(reading);
        if (mine !== reads) return;
        readFault = `The messages could not be read: ${/** @type {Error} */ (error).message}.`;
        showConnection();
        // Half of it is random: the pages of a server that restarts do not all ask at once.
        const longest = Math.min(PAUSE.longest, PAUSE.first * 2 ** failures);
        await new Promise((resolve) => setTimeout(resolve, (longest / 2) * (1 + Math.random())));
        if (mine !== reads || connection.name !== 'open') return;
      }
    }
  }

  async function newestDocuments() {
    if (!read) {
      const documents = await api.page({ size: PAGE });
      return { documents, complete: documents.length < PAGE };
    }
    // As far back as the page reaches already.
    const { complete } = messages;
    const since = complete ? undefined : messages.oldest;
    const documents = [];
    for (let page = 0; page < CATCH_UP.pages; page += 1) {
      const more = await api.page({ size: CATCH_UP.size, before: documents.at(-1)?._id, since });
      documents.push(...more);
      if (more.length < CATCH_UP.size) return { documents, complete };
    }
    return { documents, complete: false };
  }

  async function readEarlier() {
    if (loadingEarlier) return;
    loadingEarlier = true;
    earlier.setAttribute('aria-disabled', 'true');
    earlier.textContent = 'Loading…';
    const reading = messages.begin();
    try {
      const documents = await api.page({ before: reading.before, size: PAGE });
      messages.finishOlder(reading, documents, documents.length < PAGE);
      earlier.textContent = 'Load earlier messages';
    } catch (error) {
      messages.abandon(reading);
      earlier.textContent = `Not loaded: ${/** @type {Error} */ (error).message}. Try again`;
    }
    loadingEarlier = false;
    earlier.removeAttribute('aria-disabled');
    const focused = document.activeElement === earlier;
    show();
    if (focused && earlier.hidden) byId('scroller', HTMLElement).focus({ preventScroll: true });
  }

  /** @param {import('./messages.js').ChangeEvent} event */
  function arrived(event) {
    const message = messages.apply(event);
    if (message) {
      settle(message);
      told(message);
    }
    show();
  }

  /** @param {Message} message */
  function settle(message) {
    const entry = outbox.settle(message);
    if (entry) list.adopt(entry.key, message.key);
  }

  /**
   * A message of somebody else arrived: tell those who do not see it.
   * @param {Message} message
   */
  function told(message) {
    if (message.from === writer.person) return;
    announcer.textContent = `${message.from}: ${message.text}`;
    if (!list.atEnd) list.missed();
    if (document.hidden) document.title = `(${++unread}) Tailrace chat`;
  }

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return;
    unread = 0;
    document.title = 'Tailrace chat';
    show(); // The day may have changed.
  });
  noticeAction.addEventListener('click', () => {
    if (connection.name === 'open') void readNewest();
    else if (connection.name === 'stopped') stream = follow(stream.position);
    else stream.retry();
    writer.focus();
  });
  earlier.addEventListener('click', () => void readEarlier());

  let stream = follow();
}

try {
  chat(new Api(apiAddress(new URL(location.href))));
} catch (error) {
  if (!(error instanceof TypeError)) throw error;
  state.dataset.state = 'stopped';
  state.textContent = 'Not connected';
  notice.hidden = false;
  noticeAction.hidden = true;
  noticeText.textContent = error.message;
}
