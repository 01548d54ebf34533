/**
 * The only place that reads time and waits for it.
 *
 * Invariant: a lock is never taken to be valid for longer than it is. The monotonic clock may stand
 * still while the machine is suspended, and the wall clock may be set; time that passed is whichever
 * of the two says more. So a wall clock that is set ahead makes locks seem shorter, never longer,
 * and one that is plainly wrong but steady makes no difference.
 */

/** A moment, by both clocks. */
export interface Moment {
  readonly monotonic: number;
  readonly wall: number;
}

/** The longest delay that a timer takes. */
const MAX_TIMER = 2 ** 31 - 1;

/** The present. */
export function now(): Moment {
  return { monotonic: performance.now(), wall: Date.now() };
}

/** Milliseconds since a moment. */
export function elapsedSince(moment: Moment): number {
  return Math.max(performance.now() - moment.monotonic, Date.now() - moment.wall, 0);
}

/**
 * Calls back after so many milliseconds; what is returned undoes that.
 *
 * @param keepsAlive - Whether a process waits for it that has nothing else to do.
 */
export function timer(delayMs: number, keepsAlive: boolean, callback: () => void): () => void {
  const handle: unknown = setTimeout(callback, Math.min(Math.max(delayMs, 0), MAX_TIMER));
  if (!keepsAlive && typeof handle === "object" && handle !== null && "unref" in handle) {
    (handle as { unref(): void }).unref();
  }
  return () => {
    clearTimeout(handle as number);
  };
}

/** Waits; an abort of the signal rejects with its reason, and leaves no timer behind. */
export function sleep(delayMs: number, signal: AbortSignal | undefined, keepsAlive = true): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => {
      cancel();
      reject(signal?.reason);
    };
    const cancel = timer(delayMs, keepsAlive, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
