// Days and times in the words of the person's language.

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const near = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const far = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });

/** @param {number} at */
export const timeOf = (at) => clock.format(at);

/** @param {number} at */
export const momentOf = (at) => full.format(at);

/**
 * Names the local day, as `2026-11-21`.
 * @param {number} at
 */
export function dayOf(at) {
  const date = new Date(at);
  const two = (/** @type {number} */ number) => String(number).padStart(2, '0');
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/**
 * The day as people say it: today, yesterday, a weekday, a date.
 * @param {number} at
 * @param {number} now
 */
export function dayInWords(at, now) {
  // Rounded, since a day of 23 or 25 hours lies between where clocks are changed.
  const days = Math.round((new Date(at).setHours(0, 0, 0, 0) - new Date(now).setHours(0, 0, 0, 0)) / 86_400_000);
  if (days === 0 || days === -1) {
    const words = relative.format(days, 'day');
    return words.charAt(0).toLocaleUpperCase() + words.slice(1);
  }
  return new Date(at).getFullYear() === new Date(now).getFullYear() ? near.format(at) : far.format(at);
}
