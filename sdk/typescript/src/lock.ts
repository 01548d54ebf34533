/**
 * A lock that is held: it is renewed while it is, and tells when it is not.
 *
 * States: `held => (lost | released)`. Invariants: it says `held` for no longer than the server
 * promised, counted from when the server answered or earlier; `signal` is aborted exactly if it was
 * lost; after `release` began, nothing more is extended.
 */

import { type Moment, elapsedSince, sleep, timer } from "./clock.js";
import { EverlockError, LockLostError, NotHeldError } from "./errors.js";
import type { Granted, Operations } from "./operations.js";
import type { Abortable, Acquired, Extended } from "./types.js";

/** A share of the lease after which it is extended: two more tries fit before its end. */
const RENEW_AFTER = 1 / 3;
/** And after a try that failed, the next follows after this share of what is left. */
const RETRY_AFTER = 1 / 4;
/** The shortest pause between two tries, in milliseconds. */
const MIN_PAUSE = 20;
/**
 * How often it is looked whether the lock's time is over, in milliseconds, at least: a timer may
 * stand still while the machine sleeps.
 */
const LOOK_EVERY = 1_000;
/** The share of a lease that is not relied on where the server does not say how much is valid. */
const DRIFT = 0.01;
/** The timeout of an extension is what is left of the lease, but not less than this. */
const MIN_TIMEOUT = 50;

/** For how long a lock can be relied on. */
interface Validity {
  readonly since: Moment;
  readonly millis: number;
}

/**
 * A held lock. Made by `lock` and handed to the routine of `withLock`.
 *
 * `await using` releases it at the end of the block.
 */
export class Lock implements AsyncDisposable {
  /** The key, without the client's prefix. */
  readonly key: string;
  /** Its owner: whoever knows it can extend and release the lock. */
  readonly uuid: string;
  /**
   * Rises with each acquisition of the key. Hand it to your storage, and have it refuse lower ones:
   * nothing else protects it from a holder that was paused for longer than its lease.
   */
  readonly fencingToken: number;
  /** The attempts that the acquire took. */
  readonly attempts: number;

  readonly #operations: Operations;
  readonly #onReleaseFailure: ((error: EverlockError) => void) | undefined;
  readonly #lease: number;
  readonly #lost = new AbortController();
  readonly #ended = new AbortController();
  #validity: Validity;
  #cancelLook: () => void = () => {};
  #releasing: Promise<void> | undefined;

  /** @internal */
  constructor(
    operations: Operations,
    granted: Granted<Acquired>,
    renew: boolean,
    onReleaseFailure: ((error: EverlockError) => void) | undefined,
  ) {
    const { config, fencingToken, lockAcquisitionAttempts } = granted.answer;
    this.key = config.key;
    this.uuid = config.uuid;
    this.fencingToken = fencingToken;
    this.attempts = lockAcquisitionAttempts;
    this.#operations = operations;
    this.#onReleaseFailure = onReleaseFailure;
    this.#lease = config.lease;
    this.#validity = validityOf(granted, config.lease);
    this.#look();
    if (renew) {
      void this.#renew();
    }
  }

  /** Aborted, with a {@link LockLostError} as its reason, once the lock is lost. */
  get signal(): AbortSignal {
    this.#check();
    return this.#lost.signal;
  }

  /** Milliseconds for which the lock can be relied on from now, unless it is renewed; 0 at its end. */
  get remainingMs(): number {
    if (this.#lost.signal.aborted || this.#releasing !== undefined) {
      return 0;
    }
    return Math.max(this.#validity.millis - elapsedSince(this.#validity.since), 0);
  }

  /** When that is, by this machine's clock. For people: `remainingMs` does not mind a wrong clock. */
  get expiresAt(): Date {
    return new Date(Date.now() + this.remainingMs);
  }

  /** Whether the lock can be relied on at this moment. */
  get isHeld(): boolean {
    this.#check();
    return !this.#lost.signal.aborted && this.#releasing === undefined;
  }

  /** Throws a {@link LockLostError} if the lock was lost. */
  throwIfLost(): void {
    this.signal.throwIfAborted();
  }

  /**
   * Holds the lock for so much longer. Of use without renewal; with it, nothing needs to be done.
   *
   * Not sent again if its answer is lost: it rejects with an `UnavailableError`, and until an
   * extension succeeds, the lock counts for as long as it did before.
   *
   * @param extendBy - Milliseconds that are added to the present expiry.
   */
  async extend(extendBy: number, options: Abortable = {}): Promise<void> {
    this.throwIfLost();
    try {
      const { key, uuid } = this;
      this.#extended(await this.#operations.extend({ key, uuid, extendBy, signal: options.signal }));
    } catch (error) {
      if (error instanceof NotHeldError) {
        this.#lose(error.message, error);
      }
      throw error;
    }
  }

  /**
   * Releases the lock. The second call and further ones wait for the first.
   *
   * Rejects with a {@link LockLostError} if it was lost before, and with an `UnavailableError` if
   * nobody could be told: the lock then ends with its lease.
   */
  release(): Promise<void> {
    this.#check();
    this.#releasing ??= this.#release();
    return this.#releasing;
  }

  /**
   * Releases the lock. Never rejects, so that it hides no error of the block that ends: a failure
   * is told to the client's `onReleaseFailure`, and a loss was told by `signal`.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.release();
    } catch (error) {
      if (error instanceof EverlockError) {
        this.#onReleaseFailure?.(error);
      }
    }
  }

  async #release(): Promise<void> {
    this.#cancelLook();
    this.#ended.abort();
    const { key, uuid } = this;
    const lost = this.#lost.signal;
    try {
      // One that was lost may still be there: what counts here ends earlier than on the nodes.
      await this.#operations.release({ key, uuid });
    } catch (error) {
      if (error instanceof NotHeldError) {
        this.#lose(error.message, error);
      } else if (!lost.aborted) {
        throw error;
      }
    }
    lost.throwIfAborted();
  }

  /** Extends whenever a third of the lease is over, until the lock is released or lost. */
  async #renew(): Promise<void> {
    const { signal } = this.#ended;
    let pause = this.#lease * RENEW_AFTER;
    try {
      for (;;) {
        await sleep(Math.max(Math.min(pause, this.remainingMs), MIN_PAUSE), signal, false);
        this.#check();
        signal.throwIfAborted();
        pause = (await this.#renewOnce(signal)) ? this.#lease * RENEW_AFTER : this.remainingMs * RETRY_AFTER;
      }
    } catch {
      // It was released or lost: there is nothing more to renew.
    }
  }

  /** Whether it worked. What is over throws; what may pass is tried again while there is time. */
  async #renewOnce(signal: AbortSignal): Promise<boolean> {
    const { key, uuid, remainingMs } = this;
    const extendBy = Math.max(Math.ceil(this.#lease - remainingMs), 1);
    const timeoutMs = Math.max(remainingMs / 2, MIN_TIMEOUT);
    try {
      const once = this.#operations.extend({ key, uuid, extendBy, signal }, { timeoutMs }, NO_RETRY);
      this.#extended(await once);
      return true;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof NotHeldError) {
        this.#lose(error.message, error);
        throw error;
      }
      this.#failure = error;
      return false;
    }
  }

  /** Why the last renewal failed, if the one before the loss did. */
  #failure: unknown;

  #extended(granted: Granted<Extended>): void {
    const validity = validityOf(granted, this.#lease);
    this.#failure = undefined;
    // The lock's time may have ended, by this side's clock, before the answer came.
    this.#check();
    if (!this.#lost.signal.aborted && this.#releasing === undefined) {
      this.#validity = validity;
      this.#look();
    }
  }

  /** Looks again when the lock's time is over, or a little earlier. */
  #look(): void {
    this.#cancelLook();
    this.#cancelLook = timer(Math.min(this.remainingMs, LOOK_EVERY), false, () => {
      this.#check();
      if (!this.#lost.signal.aborted) {
        this.#look();
      }
    });
  }

  #check(): void {
    if (this.#releasing === undefined && this.remainingMs <= 0 && !this.#lost.signal.aborted) {
      const why = this.#failure === undefined ? "its lease ended" : "it could not be renewed before its lease ended";
      this.#lose(why, this.#failure);
    }
  }

  #lose(why: string, cause: unknown): void {
    if (!this.#lost.signal.aborted) {
      this.#cancelLook();
      this.#ended.abort();
      this.#lost.abort(new LockLostError(`the lock was lost: ${why}`, { cause }));
    }
  }
}

const NO_RETRY = { attempts: 0, baseDelayMs: 0, maxDelayMs: 0, maxRetryAfterMs: 0 };

/**
 * The server counts validity from when it answered. That was no earlier than the request was sent
 * and handled; how long the answer took to arrive is not known, so it is taken to be all the rest.
 */
export function validityOf(granted: Granted<Acquired | Extended>, lease: number): Validity {
  const { answer, reply } = granted;
  // Evermind's own service says nothing of validity.
  const said = (answer as Partial<Acquired>).validity ?? lease * (1 - DRIFT);
  const handled = Math.min(reply.handledMs, elapsedSince(reply.sentAt));
  return { since: reply.sentAt, millis: said + handled };
}

/** Milliseconds that are left of a grant. */
export function remainingOf(granted: Granted<Acquired>): number {
  const { since, millis } = validityOf(granted, granted.answer.config.lease);
  return Math.max(millis - elapsedSince(since), 0);
}
