// How a person is shown without a picture: initials on a colour, both made from the name alone.

// Graphemes, so that a letter with its marks, or an emoji of several code points, stays whole.
const letters = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

/** @param {string} name */
export function initials(name) {
  const words = name.trim().split(/[\s._-]+/).filter(Boolean);
  const ends = words.length > 1 ? [words[0], words.at(-1)] : words;
  return ends.map((word) => firstLetter(word ?? '')).join('').toLocaleUpperCase() || '?';
}

/** @param {string} word */
function firstLetter(word) {
  for (const { segment } of letters.segment(word)) return segment;
  return '';
}

/**
 * A hue in degrees; the same name has the same one on everybody's screen.
 * @param {string} name
 */
export function hue(name) {
  let hash = 2166136261; // FNV-1a, 32 bit
  for (const byte of new TextEncoder().encode(name.trim().toLowerCase())) hash = Math.imul(hash ^ byte, 16777619);
  // The low bits of similar names differ little: mix the high ones in. Twelve hues, far enough apart to tell.
  return (((hash >>> 16) ^ hash) >>> 0) % 12 * 30;
}
