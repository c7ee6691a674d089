/** A document's `_id` as a key: two are the same exactly when their JSON is, whatever BSON type they have. */
export function keyOf(id: unknown): string {
  return JSON.stringify(id) ?? '';
}
