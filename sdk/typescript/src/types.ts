/**
 * What goes into the methods and comes out of them. What travels is generated from the document of
 * the HTTP API (`schema.ts`); a type test holds these against it.
 */

import type { RetryOptions } from "./retry.js";
import type { components } from "./schema.js";
import type { EverlockError } from "./errors.js";
import type { Fetch } from "./transport.js";

type Schemas = components["schemas"];

/** How a client is constructed. */
export interface ClientOptions {
  /** The URL of the proxy, or of the balancer before several, such as `http://127.0.0.1:8080`. */
  readonly endpoint: string;
  /** The API key, where the deployment has authentication. */
  readonly apiKey?: string | undefined;
  /** Stands, with a colon, before every key: `prefix: "billing"` locks `billing:invoice-7`. */
  readonly prefix?: string | undefined;
  /** In place of the global `fetch`. */
  readonly fetch?: Fetch | undefined;
  /** Headers for every request besides this package's own. */
  readonly headers?: HeadersInit | undefined;
  /**
   * Milliseconds that an answer may take. For an acquire, they are added to the wait that it asks
   * for, so that the server always answers first. Default 10000.
   */
  readonly timeoutMs?: number | undefined;
  /** How requests that failed on their way are sent again; `false` for never. */
  readonly retry?: RetryOptions | false | undefined;
  /**
   * Is told of a release at the end of `withLock` or `await using` that failed. It is no error
   * there: the work is done, and the lock ends with its lease.
   */
  readonly onReleaseFailure?: ((error: EverlockError) => void) | undefined;
}

/** What can be aborted. */
export interface Abortable {
  /** Ends the call, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Which lock to acquire, for how long, and how long to try for it. */
export interface AcquireOptions extends Abortable {
  /** The resource to lock: any text of 1 to 512 bytes of UTF-8, `prefix` included. */
  readonly key: string;
  /** Milliseconds for which the lock is held unless it is extended or released. Default 10000. */
  readonly lease?: number | undefined;
  /** Retries after the first attempt, made by the server. Default 10; 0 to try once. */
  readonly retryAttempts?: number | undefined;
  /** Milliseconds between attempts. Default 500. */
  readonly retryDelay?: number | undefined;
  /** A random amount of up to so many milliseconds is added to each delay. Default 0. */
  readonly retryJitter?: number | undefined;
  /** The lock's owner; a fresh UUIDv7 if it is not given. */
  readonly uuid?: string | undefined;
  /** What the lock operation itself answers is returned, not thrown. */
  readonly softFail?: boolean | undefined;
  /** First in, first out among all who ask with it. */
  readonly fifo?: boolean | undefined;
}

/** Which lock to extend, and by how much. */
export interface ExtendOptions extends Abortable {
  /** The key with which it was acquired. */
  readonly key: string;
  /** The uuid with which it was acquired: `config.uuid` of the answer. */
  readonly uuid: string;
  /** Milliseconds that are added to its present expiry. */
  readonly extendBy: number;
  /** What the lock operation itself answers is returned, not thrown. */
  readonly softFail?: boolean | undefined;
}

/** Which lock to release. */
export interface ReleaseOptions extends Abortable {
  /** The key with which it was acquired. */
  readonly key: string;
  /** The uuid with which it was acquired: `config.uuid` of the answer. */
  readonly uuid: string;
  /** What the lock operation itself answers is returned, not thrown. */
  readonly softFail?: boolean | undefined;
}

/** Which lock to hold while something is done. */
export interface LockOptions extends AcquireOptions {
  /** Whether the lease is extended for as long as the lock is held. Default true. */
  readonly renew?: boolean | undefined;
}

/** The lock is the caller's. */
export type Acquired = Schemas["Acquired"];
/** The lock is not the caller's; `message` says why. */
export type NotAcquired = Schemas["NotAcquired"];
/** What an acquire with `softFail` gives. */
export type AcquireResponse = Acquired | NotAcquired;
/** The lock is held for longer. */
export type Extended = Schemas["Extended"];
/** The lock is not held for longer, or that can't be told; `message` says why. */
export type NotExtended = Schemas["NotExtended"];
/** What an extend with `softFail` gives. */
export type ExtendResponse = Extended | NotExtended;
/** The lock is released. */
export type Released = Schemas["Released"];
/** The lock was not the caller's to release, or it can't be told; `message` says why. */
export type NotReleased = Schemas["NotReleased"];
/** What a release with `softFail` gives. */
export type ReleaseResponse = Released | NotReleased;
