/**
 * The client of everlock, and of the Evermind lock API: distributed locks with fencing tokens.
 *
 * @packageDocumentation
 */

export { type Environment, Everlock, Evermind } from "./client.js";
export {
  AuthenticationError,
  ConfigurationError,
  ContendedError,
  type ErrorCode,
  type ErrorDetails,
  EverlockError,
  InvalidRequestError,
  LockLostError,
  NotHeldError,
  RateLimitedError,
  TimeoutError,
  UnavailableError,
  UnexpectedResponseError,
} from "./errors.js";
export { Lock } from "./lock.js";
export type { RetryOptions } from "./retry.js";
export type { components, operations, paths } from "./schema.js";
export type { Fetch } from "./transport.js";
export type {
  Abortable,
  AcquireOptions,
  AcquireResponse,
  Acquired,
  ClientOptions,
  ExtendOptions,
  ExtendResponse,
  Extended,
  LockOptions,
  NotAcquired,
  NotExtended,
  NotReleased,
  ReleaseOptions,
  ReleaseResponse,
  Released,
} from "./types.js";
export { uuidv7 } from "./uuid.js";
