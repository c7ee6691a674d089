/** How often the clock is looked at, in milliseconds. */
const TICK = 5_000;
/** A timer that comes this late was asleep: a suspended machine, a frozen tab. */
const ASLEEP = 30_000;

export interface WakeEvents {
  /** Every few seconds, while timers run. */
  tick(): void;
  /** The page, the tab, or the machine is back; `slept` in milliseconds, 0 if only the page became visible. */
  woke(slept: number): void;
  /** The network is back. */
  online(): void;
}

/**
 * Watches for what no socket reports: a machine that slept, a tab that was frozen, a network that changed.
 *
 * @returns ends the watch
 */
export function watchWakes(events: WakeEvents): () => void {
  let last = Date.now();
  let offline = false;
  const look = () => {
    // The wall clock, because the monotonic one stands still in a sleep. That it can be set only causes a needless check.
    const slept = Date.now() - last - TICK;
    last = Date.now();
    if (slept <= ASLEEP) return false;
    events.woke(slept);
    return true;
  };
  const timer = setInterval(() => {
    // Who has slept judges silence otherwise.
    if (!look()) events.tick();
  }, TICK);

  const ends: (() => void)[] = [() => clearInterval(timer)];
  const on = (target: EventTarget | undefined, type: string, listener: () => void) => {
    target?.addEventListener?.(type, listener);
    ends.push(() => target?.removeEventListener?.(type, listener));
  };
  const shown = () => {
    if (globalThis.document?.visibilityState !== 'hidden' && !look()) events.woke(0);
  };
  on(globalThis, 'offline', () => (offline = true));
  on(globalThis, 'online', () => {
    // Some browsers report `online` for every change of network.
    if (offline) events.online();
    else events.woke(0);
    offline = false;
  });
  on(globalThis, 'pageshow', shown);
  on(globalThis.document, 'visibilitychange', shown);
  on(globalThis.document, 'resume', shown);
  return () => ends.forEach((end) => end());
}
