import { watch, StreamError, type ChangeEvent, type DocumentKey, type Gap, type UpdateDescription, type WatchOptions } from './index.js';

/** A change event as the Realm Web SDK gave it. */
export interface RealmChangeEvent<T> {
  /** Where it stands in the stream: for equality, as MongoDB's. */
  _id: { _data: string | undefined };
  operationType: ChangeEvent<T>['operationType'];
  ns: { db: string; coll: string };
  documentKey: { _id: any; [shardKey: string]: unknown };
  fullDocument?: T;
  updateDescription?: UpdateDescription;
}

/** As `collection.watch()` of the Realm Web SDK takes it: nothing, `ids`, or `filter`. */
export interface RealmWatchOptions {
  ids?: unknown[] | undefined;
  filter?: Record<string, unknown> | undefined;
}

/** A stream that the collection declares, and the values of its variables. */
export interface DeclaredStream {
  stream: string;
  avars?: Record<string, unknown> | undefined;
}

export interface RealmClientOptions extends Pick<WatchOptions, 'token' | 'signal' | 'credentials' | 'WebSocket'> {
  /**
   * Which declared stream stands for what the code asks of `watch()`. Unless given: `all` for no options, and `byIds` with
   * the variable `ids` for `ids`. A filter always needs it: Tailrace opens no stream that was not declared.
   */
  declared?: ((asked: RealmWatchOptions, db: string, coll: string) => DeclaredStream | undefined) | undefined;
  /** Where a database's collection is, as the server mounts it: `/<db>/<coll>` unless given. */
  path?: ((db: string, coll: string) => string) | undefined;
  /** To have BSON types as values, as the Realm SDK had: `EJSON` of the package bson. */
  ejson?: { serialize(value: any): unknown; deserialize(value: any): unknown } | undefined;
  /** Told when events were lost; without it `watch()` throws then, because a Realm SDK had no word for it. */
  onGap?: ((gap: Gap) => void) | undefined;
}

export interface RealmCollection<T> {
  readonly name: string;
  /** Opens at once, and closes when the loop is left. */
  watch(options?: RealmWatchOptions): AsyncGenerator<RealmChangeEvent<T>, undefined>;
}

export interface RealmDatabase {
  readonly name: string;
  collection<T = any>(name: string): RealmCollection<T>;
}

/**
 * Stands where `user.mongoClient('mongodb-atlas')` of the Realm Web SDK stood, for `watch()` alone.
 *
 * @param url where the server's mounts begin, such as `https://api.example.com/`
 */
export function mongoClient(url: string, options: RealmClientOptions = {}): { db(name: string): RealmDatabase } {
  return {
    db: (db) => ({
      name: db,
      collection: (coll) => ({
        name: coll,
        watch: (asked = {}) => watchCollection(url, options, asked, db, coll),
      }),
    }),
  };
}

function watchCollection<T>(
  url: string,
  { declared = usual, path = usualPath, ejson, onGap, ...rest }: RealmClientOptions,
  asked: RealmWatchOptions,
  db: string,
  coll: string,
): AsyncGenerator<RealmChangeEvent<T>, undefined> {
  const found = declared(asked, db, coll) ?? usual(asked, db, coll);
  const address = `${url.replace(/\/+$/, '')}${path(db, coll)}/_streams/${encodeURIComponent(found.stream)}`;
  const avars = ejson && found.avars ? (ejson.serialize(found.avars) as Record<string, unknown>) : found.avars;
  const stream = watch<T>(address, {
    ...rest,
    avars,
    // The one form that keeps every type.
    jsonMode: ejson ? 'extended' : undefined,
  });
  const items = stream[Symbol.asyncIterator]();

  const next = async (): Promise<IteratorResult<RealmChangeEvent<T>, undefined>> => {
    for (;;) {
      const { done, value } = await items.next();
      if (done) return { done, value };
      if (value.type === 'gap') {
        if (onGap) onGap(value);
        else {
          stream.close();
          throw new StreamError(`events were lost: ${value.reason}`);
        }
      }
      if (value.type === 'leave') {
        // A Realm SDK had no word for it but this one.
        const key = ejson ? (ejson.deserialize(value.documentKey) as DocumentKey) : value.documentKey;
        return { done: false, value: shaped(deleteOf(key), value.position, db, coll) };
      }
      if (value.type === 'event' || value.type === 'enter') {
        const event = (ejson ? ejson.deserialize(value.event) : value.event) as ChangeEvent<T>;
        return { done: false, value: shaped(event, value.position, db, coll) };
      }
    }
  };
  // Not an async function*: its return() would wait for the next event before it closed anything.
  const end = async () => {
    stream.close();
    return { done: true as const, value: undefined };
  };
  const generator = {
    next,
    return: end,
    throw: async (error: unknown) => {
      stream.close();
      throw error;
    },
    [Symbol.asyncIterator]: () => generator,
  } as AsyncGenerator<RealmChangeEvent<T>, undefined>;
  return generator;
}

function deleteOf(documentKey: DocumentKey): ChangeEvent<never> {
  return { operationType: 'delete', documentKey, fullDocument: null, updateDescription: null };
}

function shaped<T>(
  { documentKey, fullDocument, updateDescription, ...rest }: ChangeEvent<T>,
  position: string | undefined,
  db: string,
  coll: string,
): RealmChangeEvent<T> {
  return {
    _id: { _data: position },
    ns: { db, coll },
    ...rest,
    documentKey: documentKey!,
    // Absent members were absent there, not null.
    ...(fullDocument && { fullDocument }),
    ...(updateDescription && { updateDescription }),
  };
}

function usual({ ids, filter }: RealmWatchOptions, db: string, coll: string): DeclaredStream {
  if (filter) {
    const place = `${db}.${coll}`;
    throw new TypeError(`watch({ filter }) on ${place}: name the stream that declares this filter in the option "declared"`);
  }
  return ids ? { stream: 'byIds', avars: { ids } } : { stream: 'all' };
}

function usualPath(db: string, coll: string): string {
  return `/${encodeURIComponent(db)}/${encodeURIComponent(coll)}`;
}
