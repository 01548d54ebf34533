/**
 * What can go wrong, each kind a class of its own.
 *
 * No error holds an API key. What a caller's own `AbortSignal` ended rejects with that signal's
 * reason, not with one of these.
 */

/** What kind of error it is, where `instanceof` is of no use (several copies of this package, say). */
export type ErrorCode =
  | "configuration"
  | "invalid_request"
  | "unauthenticated"
  | "forbidden"
  | "rate_limited"
  | "contended"
  | "not_held"
  | "lost"
  | "unavailable"
  | "timeout"
  | "unexpected_response";

/** What is known about an error besides its message. */
export interface ErrorDetails {
  /** The HTTP status, if there was an answer. */
  readonly status?: number | undefined;
  /** The answer's `x-request-id`, by which the proxy's log can be searched. */
  readonly requestId?: string | undefined;
  /** Milliseconds after which asking again is worth it, if the server said so. */
  readonly retryAfterMs?: number | undefined;
  /** The answer's body, if it was a JSON object. */
  readonly body?: Readonly<Record<string, unknown>> | undefined;
  /** What led to it. */
  readonly cause?: unknown;
}

/** The base of all errors of this package. */
export class EverlockError extends Error {
  override readonly name: string = "EverlockError";
  /** The kind of error. */
  readonly code: ErrorCode;
  /** The HTTP status, if there was an answer. */
  readonly status: number | undefined;
  /** The answer's `x-request-id`. */
  readonly requestId: string | undefined;
  /** Milliseconds after which asking again is worth it, if the server said so. */
  readonly retryAfterMs: number | undefined;
  /** The answer's body, if it was a JSON object. */
  readonly body: Readonly<Record<string, unknown>> | undefined;

  /** @internal */
  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, "cause" in details ? { cause: details.cause } : undefined);
    this.code = code;
    this.status = details.status;
    this.requestId = details.requestId;
    this.retryAfterMs = details.retryAfterMs;
    this.body = details.body;
  }
}

/** The client was constructed with options that can't work. */
export class ConfigurationError extends EverlockError {
  override readonly name = "ConfigurationError";
  /** @internal */
  constructor(message: string) {
    super("configuration", message);
  }
}

/** A field is missing or out of bounds (400, 413, 415, 431); the message names field and bound. */
export class InvalidRequestError extends EverlockError {
  override readonly name = "InvalidRequestError";
  /** @internal */
  constructor(message: string, details?: ErrorDetails) {
    super("invalid_request", message, details);
  }
}

/** The API key is missing, malformed, unknown or deleted (401), or its licence is no good (403). */
export class AuthenticationError extends EverlockError {
  override readonly name = "AuthenticationError";
  /** @internal */
  constructor(message: string, details: ErrorDetails = {}) {
    super(details.status === 403 ? "forbidden" : "unauthenticated", message, details);
  }
}

/** More was asked for than is allowed (429), also after the retries. */
export class RateLimitedError extends EverlockError {
  override readonly name = "RateLimitedError";
  /** @internal */
  constructor(message: string, details?: ErrorDetails) {
    super("rate_limited", message, details);
  }
}

/** Others held the lock until the retries ran out (409). Nothing is held. */
export class ContendedError extends EverlockError {
  override readonly name = "ContendedError";
  /** 1 + the retries that the server made. */
  readonly attempts: number;
  /** With `fifo`: how many stood before this request in line. */
  readonly position: number | undefined;
  /** @internal */
  constructor(message: string, attempts: number, position: number | undefined, details?: ErrorDetails) {
    super("contended", message, details);
    this.attempts = attempts;
    this.position = position;
  }
}

/**
 * There is no such lock to extend or release: it never was, has expired or was released (404), or
 * it is held under another uuid (409).
 */
export class NotHeldError extends EverlockError {
  override readonly name = "NotHeldError";
  /** Whether somebody else holds it now. */
  readonly heldByAnother: boolean;
  /** @internal */
  constructor(message: string, details: ErrorDetails = {}) {
    super("not_held", message, details);
    this.heldByAnother = details.status === 409;
  }
}

/** A lock was lost while it was in use: it could not be renewed in time, or was taken away. */
export class LockLostError extends EverlockError {
  override readonly name = "LockLostError";
  /** What the routine of `withLock` gave back all the same, if it ended without an error. */
  readonly result: unknown;
  /** @internal */
  constructor(message: string, details?: ErrorDetails, result?: unknown) {
    super("lost", message, details);
    this.result = result;
  }
}

/**
 * The server, or a quorum of its nodes, could not be had: there was no answer, or it was 5xx, also
 * after the retries.
 */
export class UnavailableError extends EverlockError {
  override readonly name: string = "UnavailableError";
  /**
   * Whether the operation may have been carried out all the same. An acquire of which this is true
   * is undone in the background; a release may have been done or not; an extend may have added its
   * time or not.
   */
  readonly ambiguous: boolean;
  /** @internal */
  constructor(message: string, ambiguous: boolean, details?: ErrorDetails, code: ErrorCode = "unavailable") {
    super(code, message, details);
    this.ambiguous = ambiguous;
  }
}

/** No answer came in time. */
export class TimeoutError extends UnavailableError {
  override readonly name = "TimeoutError";
  /** @internal */
  constructor(timeoutMs: number) {
    super(`no answer came within ${Math.round(timeoutMs)} ms`, true, {}, "timeout");
  }
}

/** Something answered that does not speak this API: the endpoint may be wrong. */
export class UnexpectedResponseError extends EverlockError {
  override readonly name = "UnexpectedResponseError";
  /** @internal */
  constructor(message: string, details?: ErrorDetails) {
    super("unexpected_response", message, details);
  }
}
