import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from 'react';
import { liveQuery, type LiveDocuments, type LiveQuery, type LiveQueryOptions } from './live-query.js';

const NOTHING: LiveDocuments<never> = { documents: [], status: 'loading', complete: false };
const NOTHING_YET: LiveDocuments<never> = { ...NOTHING, complete: true };

/**
 * The documents of a stream, live, while the component is mounted. Another `url`, `avars`, `snapshot`, or `jsonMode` opens
 * another stream; other options may change freely, and the functions among them are called as they are by then. The object
 * that is returned is the same until the documents, their order, or the status change, also where `compare` is another
 * function at each render.
 *
 * @param url null for none
 */
export function useLiveQuery<T = Record<string, unknown>, Complete extends boolean = false>(
  url: string | null,
  options: LiveQueryOptions<T, Complete> = {},
): LiveDocuments<T, Complete> {
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const { avars, snapshot, jsonMode, token, load } = options;
  const opens = JSON.stringify([url, avars, snapshot, jsonMode, typeof token === 'string' ? token : !!token, !!load]);
  const [opened, setOpened] = useState<{ opens: string; query: LiveQuery<T, Complete> }>();
  // Until the effect has run there is still the stream of before, whose documents are not the ones asked for.
  const query = opened?.opens === opens ? opened.query : undefined;

  useEffect(() => {
    if (url === null) return;
    const { token, load } = latest.current;
    const query = liveQuery<T, Complete>(url, {
      ...latest.current,
      // Sorted below, by the order of the render that shows them.
      compare: undefined,
      ...(typeof token === 'function' && {
        token: (request) => {
          const { token } = latest.current;
          return typeof token === 'function' ? token(request) : token;
        },
      }),
      ...(load && { load: async (signal) => (await latest.current.load?.(signal)) ?? [] }),
    });
    setOpened({ opens, query });
    return () => {
      query.close();
      setOpened(undefined);
    };
    // `opens` is the value of what it reads.
  }, [opens]);

  const subscribe = useCallback((changed: () => void) => query?.subscribe(changed) ?? (() => {}), [query]);
  const nothing = (options.complete ? NOTHING_YET : NOTHING) as LiveDocuments<T> as LiveDocuments<T, Complete>;
  const state = () => query?.state ?? nothing;
  return useSorted(useSyncExternalStore(subscribe, state, state), options.compare);
}

function useSorted<T, Complete extends boolean>(
  state: LiveDocuments<T, Complete>,
  compare: ((a: T, b: T) => number) | undefined,
): LiveDocuments<T, Complete> {
  const last = useRef<{ state: typeof state; compare: typeof compare; sorted: typeof state }>(undefined);
  let sorted = last.current?.sorted;
  if (!sorted || last.current?.state !== state || last.current.compare !== compare) {
    const documents = compare ? [...state.documents].sort(compare) : state.documents;
    const isSame = sorted && last.current?.state === state && documents.every((document, n) => document === sorted?.documents[n]);
    if (!sorted || !isSame) sorted = compare ? { ...state, documents } : state;
    last.current = { state, compare, sorted };
  }
  return sorted;
}
