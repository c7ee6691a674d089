import type { UpdateDescription } from './item.js';

/**
 * Applies what an update changed, for events that come without the document: where the definition turns the look-up off.
 * Returns a new document; what did not change is shared with the old one.
 */
export function updated<T>(document: T, { updatedFields, removedFields, truncatedArrays }: UpdateDescription): T {
  let result: unknown = document;
  for (const { field, newSize } of truncatedArrays ?? []) {
    result = change(result, field.split('.'), (array) => (Array.isArray(array) ? array.slice(0, newSize) : array));
  }
  for (const [path, value] of Object.entries(updatedFields)) result = change(result, path.split('.'), () => value);
  for (const path of removedFields) result = change(result, path.split('.'), () => undefined);
  return result as T;
}

/** The value with another one at the path; a field whose new value is undefined is taken away. */
function change(value: unknown, path: string[], to: (old: unknown) => unknown): unknown {
  const [name, ...rest] = path;
  if (name === undefined) return to(value);
  if (Array.isArray(value)) {
    const copy = [...value];
    copy[Number(name)] = change(copy[Number(name)], rest, to);
    return copy;
  }
  const { [name]: old, ...others } = (value ?? {}) as Record<string, unknown>;
  const next = change(old, rest, to);
  if (next === undefined) return others;
  // In its old place, if it has one: MongoDB keeps the order of fields.
  return old === undefined ? { ...others, [name]: next } : { ...(value as object), [name]: next };
}
