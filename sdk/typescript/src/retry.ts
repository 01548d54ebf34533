/** When a failed request is sent again, and how long is waited before. */

import { sleep } from "./clock.js";
import { EverlockError, RateLimitedError, UnavailableError } from "./errors.js";

/** How failed requests are sent again. */
export interface RetryOptions {
  /** How often a request is sent again after the first time; 0 for never. Default 3. */
  readonly attempts?: number;
  /** Milliseconds before the first retry; each further one waits up to twice as long. Default 100. */
  readonly baseDelayMs?: number;
  /** The most that is waited before a retry, in milliseconds, `Retry-After` aside. Default 2000. */
  readonly maxDelayMs?: number;
  /**
   * A `Retry-After` of more milliseconds than this is not waited for: the error is thrown at once,
   * and says it. Default 30000.
   */
  readonly maxRetryAfterMs?: number;
}

/** {@link RetryOptions} with the defaults filled in. */
export type RetryPolicy = Required<RetryOptions>;

const DEFAULTS: RetryPolicy = {
  // With the delays below, a restart of a proxy is outlived, and an outage is told within seconds.
  attempts: 3,
  baseDelayMs: 100,
  maxDelayMs: 2_000,
  // As long as a serverless function may often run altogether.
  maxRetryAfterMs: 30_000,
};

/** Fills in the defaults. */
export function retryPolicy(options: RetryOptions | false | undefined): RetryPolicy {
  return options === false ? { ...DEFAULTS, attempts: 0 } : { ...DEFAULTS, ...options };
}

/** Whether it is worth sending an idempotent request again. */
export function isPassing(error: unknown): error is EverlockError {
  return error instanceof RateLimitedError || error instanceof UnavailableError;
}

/**
 * Sends until it works, the error is none that passes, or the retries are used up.
 *
 * @param send - Sends once; it is given the number of retries before.
 * @param mayRetry - Whether an error allows to send again.
 */
export async function retrying<T>(
  policy: RetryPolicy,
  signal: AbortSignal | undefined,
  mayRetry: (error: unknown) => error is EverlockError,
  send: (retry: number) => Promise<T>,
): Promise<T> {
  for (let retry = 0; ; retry += 1) {
    try {
      return await send(retry);
    } catch (error) {
      if (retry >= policy.attempts || !mayRetry(error)) {
        throw error;
      }
      const asked = error.retryAfterMs ?? 0;
      if (asked > policy.maxRetryAfterMs) {
        throw error;
      }
      await sleep(asked + backoff(policy, retry), signal);
    }
  }
}

/** Half of an exponentially growing delay, and a random part of the other half: clients spread out. */
function backoff(policy: RetryPolicy, retry: number): number {
  const most = Math.min(policy.baseDelayMs * 2 ** retry, policy.maxDelayMs);
  return most / 2 + (Math.random() * most) / 2;
}

/**
 * Milliseconds that a `Retry-After` header asks for: seconds, or a date. A date is the server's, so
 * it is compared with the server's own present, the header `Date`.
 */
export function retryAfterMs(headers: Headers): number | undefined {
  const header = headers.get("retry-after")?.trim() ?? "";
  if (/^\d+$/.test(header)) {
    return Number(header) * 1_000;
  }
  const date = Date.parse(header);
  if (Number.isNaN(date)) {
    return undefined;
  }
  const present = Date.parse(headers.get("date") ?? "");
  return Math.max(date - (Number.isNaN(present) ? Date.now() : present), 0);
}
