/** The client: what programs construct and call. */

import { ConfigurationError, EverlockError, LockLostError, NotHeldError, UnavailableError } from "./errors.js";
import { Lock, remainingOf } from "./lock.js";
import { DEFAULTS, Operations } from "./operations.js";
import { retryPolicy } from "./retry.js";
import type {
  AcquireOptions,
  AcquireResponse,
  Acquired,
  ClientOptions,
  ExtendOptions,
  ExtendResponse,
  Extended,
  LockOptions,
  ReleaseOptions,
  ReleaseResponse,
  Released,
} from "./types.js";
import { uuidv7 } from "./uuid.js";

/** Longer than the proxy takes to tell an outage, or to answer what it waits no more for. */
const DEFAULT_TIMEOUT_MS = 10_000;
/** A grant of which less than this share is left on arrival is asked for again. */
const FRESH = 1 / 2;

/** Environment variables, as `process.env` and a Worker's `env` have them. */
export type Environment = Readonly<Record<string, unknown>>;

/**
 * A client of everlock, or of any service that speaks the Evermind lock API.
 *
 * It keeps no connection and no state but what it undoes in the background (see `settled`); make
 * one and use it for everything. Every call takes an `AbortSignal`. Every call may reject with an
 * {@link EverlockError}; its subclasses tell contended, unavailable, lost and mistaken apart.
 *
 * @example
 * ```ts
 * const everlock = new Everlock({ endpoint: "http://127.0.0.1:8080" });
 * const total = await everlock.withLock({ key: "invoices:2026-11" }, async (lock) => {
 *   return charge({ fencingToken: lock.fencingToken, signal: lock.signal });
 * });
 * ```
 */
export class Everlock {
  readonly #operations: Operations;
  readonly #onReleaseFailure: ((error: EverlockError) => void) | undefined;

  /** Throws a {@link ConfigurationError} that names what can't work. */
  constructor(options: ClientOptions) {
    const { prefix, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    if (!(timeoutMs > 0 && Number.isFinite(timeoutMs))) {
      throw new ConfigurationError(`timeoutMs is ${timeoutMs}: it takes a number of milliseconds above 0`);
    }
    const policy = retryPolicy(options.retry);
    for (const [name, value] of Object.entries(policy)) {
      if (!(value >= 0)) {
        throw new ConfigurationError(`retry.${name} is ${value}: it takes a number of at least 0`);
      }
    }
    const target = { endpoint: endpoint(options.endpoint), fetch: fetcher(options.fetch), headers: headers(options) };
    this.#operations = new Operations(target, policy, timeoutMs, prefix);
    this.#onReleaseFailure = options.onReleaseFailure;
  }

  /**
   * A client by the environment: `EVERLOCK_ENDPOINT` (or `EVERMIND_BASE_URL`), and, where they are
   * set, `EVERLOCK_API_KEY` (or `EVERMIND_API_KEY`) and `EVERLOCK_PREFIX`.
   *
   * @param options - What counts in place of the environment.
   * @param environment - Where there is no `process.env`: a Worker's `env`, `Deno.env.toObject()`.
   */
  static fromEnv(options: Partial<ClientOptions> = {}, environment: Environment = processEnvironment()): Everlock {
    const read = (...names: string[]): string | undefined => {
      const values = names.map((name) => environment[name]);
      const value = values.find((value) => typeof value === "string" && value.trim() !== "");
      return (value as string | undefined)?.trim();
    };
    const endpoint = options.endpoint ?? read("EVERLOCK_ENDPOINT", "EVERMIND_BASE_URL");
    if (endpoint === undefined) {
      throw new ConfigurationError("EVERLOCK_ENDPOINT is not set: it takes the URL of the proxy");
    }
    return new this({
      apiKey: read("EVERLOCK_API_KEY", "EVERMIND_API_KEY"),
      prefix: read("EVERLOCK_PREFIX"),
      ...options,
      endpoint,
    });
  }

  /**
   * Acquires a lock, waiting for it as the retries say. Nothing renews it: see `lock`, `withLock`.
   *
   * An abort of the signal ends the wait at once; what was acquired meanwhile is released in the
   * background, as it is when the answer was lost and asking again did not help. That goes for a
   * `uuid` of the caller's, too.
   *
   * @returns The lock. Rejects with a `ContendedError` if others held it until the retries ran out,
   * and with an `UnavailableError` if no quorum of nodes could be had; with `softFail` both are
   * returned, with `acquired: false`.
   */
  acquire(options: AcquireOptions & { readonly softFail: true }): Promise<AcquireResponse>;
  acquire(options: AcquireOptions & { readonly softFail?: false | undefined }): Promise<Acquired>;
  acquire(options: AcquireOptions): Promise<AcquireResponse>;
  async acquire(options: AcquireOptions): Promise<AcquireResponse> {
    const uuid = options.uuid ?? uuidv7();
    try {
      return (await this.#operations.acquire(options, uuid)).answer;
    } catch (error) {
      const body = softened(options, error);
      return {
        lockAcquisitionAttempts: 0,
        ...body,
        acquired: false,
        message: body.message,
        config: config(options, uuid),
      };
    }
  }

  /**
   * Adds to the expiry of a lock.
   *
   * It is sent again only if the server said that nothing was done (429): sent twice, it may add
   * twice. Where the answer was lost it rejects with an `UnavailableError` that is `ambiguous`.
   *
   * @returns How long it is valid. Rejects with a `NotHeldError` if there is no such lock; with
   * `softFail` that is returned, with `extended: false`.
   */
  extend(options: ExtendOptions & { readonly softFail: true }): Promise<ExtendResponse>;
  extend(options: ExtendOptions & { readonly softFail?: false | undefined }): Promise<Extended>;
  extend(options: ExtendOptions): Promise<ExtendResponse>;
  async extend(options: ExtendOptions): Promise<ExtendResponse> {
    try {
      return (await this.#operations.extend(options)).answer;
    } catch (error) {
      return { ...softened(options, error), extended: false };
    }
  }

  /**
   * Releases a lock. It is sent again where an answer was lost, and is then content to find nothing.
   *
   * @returns Rejects with a `NotHeldError` if there is no such lock; with `softFail` that is
   * returned, with `released: false`.
   */
  release(options: ReleaseOptions & { readonly softFail: true }): Promise<ReleaseResponse>;
  release(options: ReleaseOptions & { readonly softFail?: false | undefined }): Promise<Released>;
  release(options: ReleaseOptions): Promise<ReleaseResponse>;
  async release(options: ReleaseOptions): Promise<ReleaseResponse> {
    try {
      return await this.#operations.release(options);
    } catch (error) {
      return { ...softened(options, error), released: false };
    }
  }

  /**
   * Acquires a lock that is renewed until it is released.
   *
   * ```ts
   * await using lock = await everlock.lock({ key: "report" });
   * await write({ fencingToken: lock.fencingToken, signal: lock.signal });
   * ```
   *
   * Rejects as `acquire` does. The options' signal ends the wait, not the lock.
   */
  async lock(options: LockOptions): Promise<Lock> {
    const uuid = options.uuid ?? uuidv7();
    let granted = await this.#operations.acquire(options, uuid);
    const lease = granted.answer.config.lease;
    // Much of it went by on the way, or may have: the server did not say how long it waited. Asked
    // for with the same uuid, it is the same lock with a lease of its own.
    if (remainingOf(granted) < lease * FRESH) {
      try {
        granted = await this.#operations.acquire({ ...options, lease, retryAttempts: 0 }, uuid);
      } catch (error) {
        this.#operations.undo(options.key, uuid);
        throw error;
      }
    }
    return new Lock(this.#operations, granted, options.renew ?? true, this.#onReleaseFailure);
  }

  /**
   * Runs a routine while holding a lock, which is renewed meanwhile and released afterwards.
   *
   * The routine runs only if the lock was acquired; else this rejects as `acquire` does. It is handed
   * the lock, with a signal that is aborted if the lock is lost and the fencing token.
   *
   * @returns What the routine gives back. Rejects with the routine's own error if it throws, whatever
   * came of the release; with a {@link LockLostError} if the lock was lost while it ran, which then
   * has what it gave back as `result`. That nobody could be told of the release is no error: the lock
   * ends with its lease, and the client's `onReleaseFailure` is told.
   */
  async withLock<T>(options: LockOptions, routine: (lock: Lock) => T | PromiseLike<T>): Promise<T> {
    const lock = await this.lock(options);
    let result: T;
    try {
      result = await routine(lock);
    } catch (error) {
      await lock[Symbol.asyncDispose]();
      throw error;
    }
    try {
      await lock.release();
    } catch (error) {
      if (error instanceof LockLostError) {
        throw new LockLostError(error.message, { cause: error.cause }, result);
      }
      if (!(error instanceof EverlockError)) {
        throw error;
      }
      this.#onReleaseFailure?.(error);
    }
    return result;
  }

  /**
   * Completes once nothing is being undone in the background any more, within seconds.
   *
   * For platforms that stop a function as soon as it has answered: `ctx.waitUntil(everlock.settled())`.
   */
  settled(): Promise<void> {
    return this.#operations.settled();
  }
}

/** {@link Everlock} under the name that programs written for Evermind know. */
export class Evermind extends Everlock {}

/** What was answered, if that is not to be thrown. */
function softened(options: { readonly softFail?: boolean | undefined }, error: unknown): { message: string } {
  const answered = error instanceof EverlockError && error.body !== undefined && error.status !== 429;
  const soft = error instanceof NotHeldError || error instanceof UnavailableError || isContended(error);
  if (options.softFail && answered && soft && isLockStatus(error.status)) {
    return { ...error.body, message: error.message };
  }
  throw error;
}

function isContended(error: unknown): boolean {
  return error instanceof EverlockError && error.code === "contended";
}

function isLockStatus(status: number | undefined): boolean {
  return status === 200 || status === 404 || status === 409 || status === 503;
}

/** What an acquire asked for, where the answer does not repeat it. */
function config(options: AcquireOptions, uuid: string): Acquired["config"] {
  return {
    key: options.key,
    uuid,
    lease: options.lease ?? DEFAULTS.lease,
    retryAttempts: options.retryAttempts ?? DEFAULTS.retryAttempts,
    retryDelay: options.retryDelay ?? DEFAULTS.retryDelay,
    retryJitter: options.retryJitter ?? DEFAULTS.retryJitter,
    fifo: options.fifo ?? false,
  };
}

function endpoint(given: string): string {
  let url: URL;
  try {
    url = new URL(given);
  } catch {
    throw new ConfigurationError(`endpoint is ${JSON.stringify(given)}: it takes a URL such as http://127.0.0.1:8080`);
  }
  if (!["http:", "https:"].includes(url.protocol) || url.search !== "" || url.hash !== "" || url.username !== "") {
    throw new ConfigurationError("endpoint takes a URL of http or https, without user, query and fragment");
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, "");
}

function fetcher(given: ClientOptions["fetch"]): NonNullable<ClientOptions["fetch"]> {
  if (given === undefined && typeof globalThis.fetch !== "function") {
    throw new ConfigurationError("there is no global fetch here: give one as the option fetch");
  }
  // Looked up at each call, so that a test can replace it; and called as what it is, not as a method.
  return given ?? ((input, init) => globalThis.fetch(input, init));
}

function headers(options: ClientOptions): Headers {
  const headers = new Headers(options.headers);
  headers.set("content-type", "application/json");
  headers.set("accept", "application/json");
  if (options.apiKey !== undefined) {
    try {
      headers.set("authorization", `Bearer ${options.apiKey}`);
    } catch {
      // The platform's own message would repeat the key.
      throw new ConfigurationError("apiKey has characters that no header can hold");
    }
  }
  return headers;
}

function processEnvironment(): Environment {
  const { process } = globalThis as { process?: { env?: Environment } };
  return process?.env ?? {};
}
