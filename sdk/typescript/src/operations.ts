/**
 * The three lock operations, with their retries: from options to an answer, or an error that says
 * what is known.
 *
 * Invariant: an acquire that may have been granted without the caller's knowledge is undone, be it
 * that the answer was lost or that the caller gave up. An extend is never sent twice unless the
 * server said that it did nothing.
 */

import { elapsedSince, now, sleep } from "./clock.js";
import {
  ContendedError,
  type ErrorDetails,
  EverlockError,
  InvalidRequestError,
  NotHeldError,
  RateLimitedError,
  UnavailableError,
} from "./errors.js";
import { type RetryPolicy, isPassing, retrying } from "./retry.js";
import { type Reply, type Sending, type Target, message, post } from "./transport.js";
import type { AcquireOptions, Acquired, Extended, ExtendOptions, Released, ReleaseOptions } from "./types.js";

/** What the document of the API says of requests that leave these out. */
export const DEFAULTS = { lease: 10_000, retryAttempts: 10, retryDelay: 500, retryJitter: 0 } as const;

/**
 * When releases are sent that undo an acquire, in milliseconds after one another. All are sent,
 * whatever the ones before were told: the acquire, or the last of several that were sent, may hang
 * somewhere on its way and arrive after a release that has found what an earlier one had got.
 */
const UNDO_DELAYS = [0, 250, 1_000];

/** An answer and when it was given. */
export interface Granted<T> {
  readonly answer: T;
  readonly reply: Reply;
}

/** The operations, as one client does them. */
export class Operations {
  readonly #target: Target;
  readonly #retry: RetryPolicy;
  readonly #timeoutMs: number;
  readonly #prefix: string;
  readonly #undoing = new Set<Promise<void>>();

  constructor(target: Target, retry: RetryPolicy, timeoutMs: number, prefix: string | undefined) {
    this.#target = target;
    this.#retry = retry;
    this.#timeoutMs = timeoutMs;
    this.#prefix = prefix === undefined ? "" : `${prefix}:`;
  }

  /** Completes once nothing is being undone any more. */
  async settled(): Promise<void> {
    while (this.#undoing.size > 0) {
      await Promise.all(this.#undoing);
    }
  }

  /** Acquires with this uuid. */
  async acquire(options: AcquireOptions, uuid: string): Promise<Granted<Acquired>> {
    const { key, signal, lease, retryDelay, retryJitter, fifo } = options;
    const rest = { lease, retryDelay, retryJitter, fifo };
    const retryAttempts = options.retryAttempts ?? DEFAULTS.retryAttempts;
    checkNumbers({ ...rest, retryAttempts });
    const pause = (retryDelay ?? DEFAULTS.retryDelay) + (retryJitter ?? DEFAULTS.retryJitter);
    const wait = retryAttempts * pause;
    const started = now();
    let sent = false;
    let ambiguous = false;
    const send = async (retry: number): Promise<Granted<Acquired>> => {
      // A request that is sent again waits for what is left of the time only.
      const left = Math.max(wait - elapsedSince(started), 0);
      const attempts = retry === 0 || pause <= 0 ? retryAttempts : Math.ceil(left / pause);
      const body = { ...rest, key: this.#prefix + key, uuid, retryAttempts: attempts };
      const timeoutMs = attempts * pause + this.#timeoutMs;
      try {
        const reply = await this.#post("/lock/acquire", body, { timeoutMs, signal, outcome: "acquired" }, () => {
          sent = true;
        });
        const answer = reply.body as unknown as Acquired;
        if (!answer.acquired) {
          throw refusedAcquire(reply);
        }
        return { answer: { ...answer, config: { ...answer.config, key, retryAttempts } }, reply };
      } catch (error) {
        ambiguous ||= !isAnswer(error);
        throw error;
      }
    };
    try {
      const granted = await retrying(this.#retry, signal, isPassing, send);
      if (signal?.aborted) {
        // It crossed the answer: whoever aborts expects nothing to be held.
        ambiguous = true;
        throw signal.reason;
      }
      return granted;
    } catch (error) {
      if (sent && ambiguous) {
        this.undo(key, uuid);
      }
      throw error;
    }
  }

  /** Extends once; sends again only what was refused before anything was done. */
  async extend(
    options: ExtendOptions,
    limits: Partial<Sending> = {},
    policy: RetryPolicy = this.#retry,
  ): Promise<Granted<Extended>> {
    const { key, uuid, extendBy, signal } = options;
    checkNumbers({ extendBy });
    const body = { key: this.#prefix + key, uuid, extendBy };
    const mayRetry = (error: unknown): error is EverlockError => error instanceof RateLimitedError;
    return retrying(policy, signal, mayRetry, async () => {
      const sending: Sending = { timeoutMs: this.#timeoutMs, signal, ...limits, outcome: "extended" };
      const reply = await this.#post("/lock/extend", body, sending);
      const answer = reply.body as unknown as Extended;
      if (!answer.extended) {
        throw refused(reply);
      }
      return { answer, reply };
    });
  }

  /** Releases. What is not there after an answer was lost was released by that request. */
  async release(options: ReleaseOptions): Promise<Released> {
    const { key, uuid, signal } = options;
    const body = { key: this.#prefix + key, uuid };
    let ambiguous = false;
    return retrying(this.#retry, signal, isPassing, async () => {
      const sending: Sending = { timeoutMs: this.#timeoutMs, signal, outcome: "released" };
      try {
        const reply = await this.#post("/lock/release", body, sending);
        const answer = reply.body as unknown as Released;
        if (!answer.released) {
          throw refused(reply);
        }
        return answer;
      } catch (error) {
        if (ambiguous && error instanceof NotHeldError) {
          return { released: true, message: null };
        }
        ambiguous ||= error instanceof UnavailableError;
        throw error;
      }
    });
  }

  /** Releases, in the background, what nobody will ever hold. */
  undo(key: string, uuid: string): void {
    const undoing = this.#undone(key, uuid).finally(() => this.#undoing.delete(undoing));
    this.#undoing.add(undoing);
  }

  async #undone(key: string, uuid: string): Promise<void> {
    for (const delay of UNDO_DELAYS) {
      await sleep(delay, undefined);
      try {
        await this.release({ key, uuid });
      } catch {
        // What is not there may still be on its way, and what can't be told now may be told in a
        // moment.
      }
    }
  }

  #post(path: string, body: object, sending: Sending, onSend?: () => void): Promise<Reply> {
    sending.signal?.throwIfAborted();
    onSend?.();
    return post(this.#target, path, body, sending);
  }
}

/** Whether the server itself said what came of it, or that it did nothing. */
function isAnswer(error: unknown): boolean {
  return error instanceof UnavailableError ? !error.ambiguous : error instanceof EverlockError;
}

function refusedAcquire(reply: Reply): Error {
  const body = reply.body as { lockAcquisitionAttempts?: number; position?: number };
  if (reply.status !== 409 && reply.status !== 200) {
    return refused(reply);
  }
  const said = message(reply.body) ?? "the lock is held by others";
  return new ContendedError(said, body.lockAcquisitionAttempts ?? 0, body.position, told(reply));
}

function refused(reply: Reply): Error {
  const said = message(reply.body) ?? `the answer was ${reply.status}`;
  if (reply.status === 503) {
    // The server says that nothing is held. Of what else it may have done, it can't be sure.
    return new UnavailableError(said, !("acquired" in reply.body), told(reply));
  }
  return new NotHeldError(said, told(reply));
}

/** The body knows better than the header, in milliseconds, when the holder's lease ends. */
function told(reply: Reply): ErrorDetails {
  const { retryAfter } = reply.body;
  return typeof retryAfter === "number" ? { ...reply.details, retryAfterMs: retryAfter } : reply.details;
}

/** JSON has no such numbers: they would become `null`, and that the default. */
function checkNumbers(fields: object): void {
  for (const [name, value] of Object.entries(fields)) {
    if (typeof value === "number" && !Number.isFinite(value)) {
      throw new InvalidRequestError(`${name} is ${value}: it takes a whole number of milliseconds`);
    }
  }
}
