/** A place between two events, opaque, valid on every node. Keep it to continue there with `resumeAfter`. */
export type Position = string;

/** What a stream shows, opaque: the same text for as long as definition, variables, and the caller's rights show the same. */
export type View = string;

/** What an update changed, as MongoDB tells it. */
export interface UpdateDescription {
  updatedFields: Record<string, unknown>;
  removedFields: string[];
  truncatedArrays?: { field: string; newSize: number }[];
}

/** What names a document: its `_id`, and in a sharded collection more. */
export interface DocumentKey {
  _id: unknown;
  [shardKey: string]: unknown;
}

/** One change. The values are relaxed Extended JSON with dates as `{"$date": <milliseconds>}`. */
export interface ChangeEvent<T> {
  operationType: 'insert' | 'update' | 'replace' | 'delete' | (string & {});
  /** The document as it is by now, not as the event left it; null when it is gone, and on a delete. */
  fullDocument: T | null;
  documentKey: DocumentKey | null;
  updateDescription: UpdateDescription | null;
  /** What the definition's stages set. */
  [member: string]: unknown;
}

/**
 * The stream is open: what is written from now on will be seen. When `resumed` is false it begins here: at its first
 * opening, behind a gap, and when a snapshot has to start over.
 */
export interface Ready {
  type: 'ready';
  position?: Position | undefined;
  /** What is shown from here on; absent where the server does not say. Keep it beside the position, for the option `view`. */
  view?: View;
  resumed: boolean;
  /**
   * It continues, but by another definition, or for a caller who may see something else by now: no event tells of the
   * documents that went out of view by that. Whoever keeps documents loads them again.
   */
  changed?: true;
}

/** One document of the snapshot. */
export interface Snapshot<T> {
  type: 'snapshot';
  document: T;
}

/** The snapshot is complete; changes follow. */
export interface SnapshotEnd {
  type: 'snapshotEnd';
  position?: Position | undefined;
}

export interface Event<T> {
  type: 'event';
  event: ChangeEvent<T>;
  position?: Position | undefined;
}

/**
 * A document comes into view that was there already: take it in as if it were new. Told where the collection records pre-
 * and post-images, and the stream has a filter of documents.
 */
export interface Enter<T> {
  type: 'enter';
  /** The change by which it comes. */
  event: ChangeEvent<T>;
  position?: Position | undefined;
}

/** A document goes out of view, or is deleted: take it out. Told where `enter` is. */
export interface Leave {
  type: 'leave';
  documentKey: DocumentKey;
  position?: Position | undefined;
}

/** Events were lost. The stream is open again, and `ready` follows: load the data then, and what comes continues from there. */
export interface Gap {
  type: 'gap';
  reason: string;
  position?: Position | undefined;
}

/** An event could not be computed, and is missing here; the stream goes on behind it. */
export interface Failure {
  type: 'error';
  /** MongoDB's error code; a text only where the server gave no number. */
  code: number | string;
  position?: Position | undefined;
}

/** What a stream hands to its consumer, in order. */
export type Item<T> = Ready | Snapshot<T> | SnapshotEnd | Event<T> | Enter<T> | Leave | Gap | Failure;
