/**
 * One request and its answer. It knows HTTP and nothing of locks: statuses become answers or errors,
 * never retries.
 *
 * Invariant: no request outlives its timeout or its signal, and neither leaves a listener behind.
 */

import { type Moment, now, timer } from "./clock.js";
import {
  AuthenticationError,
  type ErrorDetails,
  InvalidRequestError,
  RateLimitedError,
  TimeoutError,
  UnavailableError,
  UnexpectedResponseError,
} from "./errors.js";
import { retryAfterMs } from "./retry.js";

/** A function like the global `fetch`. */
export type Fetch = (input: string, init: RequestInit) => Promise<Response>;

/** Where requests go, and with what. */
export interface Target {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly fetch: Fetch;
  /** The headers of every request; may hold the API key, so it goes nowhere else. */
  readonly headers: Headers;
}

/** An answer that is JSON, of a status that the caller understands. */
export interface Reply {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  readonly details: ErrorDetails;
  /** When the request was sent. */
  readonly sentAt: Moment;
  /** Milliseconds between the request's arrival and the moment from which validity counts; else 0. */
  readonly handledMs: number;
}

/** How one request is sent. */
export interface Sending {
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  /** The field that says whether the operation worked. */
  readonly outcome: "acquired" | "extended" | "released";
}

/**
 * Posts JSON.
 *
 * Resolves with what the lock operation itself answered: 200, or 404, 409 and 503 with the
 * operation's outcome in the body. All else is thrown.
 */
export async function post(target: Target, path: string, body: object, sending: Sending): Promise<Reply> {
  const { signal, timeoutMs, outcome } = sending;
  signal?.throwIfAborted();
  const controller = new AbortController();
  const timeout = new TimeoutError(timeoutMs);
  const onAbort = (): void => {
    controller.abort(signal?.reason);
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  const cancel = timer(timeoutMs, true, () => {
    controller.abort(timeout);
  });
  const sentAt = now();
  let response: Response;
  let text: string;
  try {
    response = await target.fetch(`${target.endpoint}${path}`, {
      method: "POST",
      headers: target.headers,
      body: JSON.stringify(body),
      signal: controller.signal,
      // A lock service that moved is a mistake in the configuration; keys are not sent after it.
      redirect: "manual",
    });
    text = await response.text();
  } catch (cause) {
    signal?.throwIfAborted();
    if (controller.signal.aborted) {
      throw timeout;
    }
    throw new UnavailableError("the connection failed before there was an answer", true, { cause });
  } finally {
    cancel();
    signal?.removeEventListener("abort", onAbort);
  }
  const parsed = object(text);
  const details: ErrorDetails = {
    body: parsed,
    status: response.status,
    requestId: response.headers.get("x-request-id") ?? undefined,
    retryAfterMs: retryAfterMs(response.headers),
  };
  if (typeof parsed?.[outcome] === "boolean" && [200, 404, 409, 503].includes(response.status)) {
    const handledMs = handled(response.headers.get("server-timing"));
    return { status: response.status, body: parsed, details, sentAt, handledMs };
  }
  throw failure(response.status, message(parsed), details);
}

/** What the server says that was wrong, or nothing. */
export function message(body: Readonly<Record<string, unknown>> | undefined): string | undefined {
  return typeof body?.["message"] === "string" ? body["message"] : undefined;
}

function failure(status: number, said: string | undefined, details: ErrorDetails): Error {
  const what = said ?? `the answer was ${status}`;
  switch (status) {
    case 400:
    case 413:
    case 415:
    case 431:
      return new InvalidRequestError(what, details);
    case 401:
    case 403:
      return new AuthenticationError(what, details);
    case 429:
      return new RateLimitedError(what, details);
    case 408:
    case 500:
    case 502:
    case 503:
    case 504:
      return new UnavailableError(what, true, details);
    default:
      return new UnexpectedResponseError(
        said ?? `the answer was ${status} and none of this API: is the endpoint right?`,
        details,
      );
  }
}

function object(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** The proxy's own duration in a `Server-Timing` header; others may stand beside it. */
function handled(header: string | null): number {
  const found = /(?:^|,)\s*everlock\s*;\s*dur=([0-9]+)\s*(?:,|$)/.exec(header ?? "");
  return found === null ? 0 : Number(found[1]);
}
