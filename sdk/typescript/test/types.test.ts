// The types: checked by the compiler, which has to pass for any test to run.

import { test } from "node:test";
import type {
  AcquireOptions,
  AcquireResponse,
  Acquired,
  ClientOptions,
  Everlock,
  ExtendOptions,
  ExtendResponse,
  Extended,
  Lock,
  LockOptions,
  NotAcquired,
  ReleaseOptions,
  ReleaseResponse,
  Released,
  components,
} from "@everlock/client";

type Schemas = components["schemas"];
// Whether two types are one and the same.
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function isTrue<T extends true>(_?: T): void {}

declare const everlock: Everlock;
declare const maybe: boolean;

// What is written by hand fits what the document of the API says, and leaves none of its fields out.
type Wire<T> = { [K in keyof T as K extends "signal" | "renew" ? never : K]: Exclude<T[K], undefined> };
isTrue<Wire<Required<AcquireOptions>> extends Required<Schemas["AcquireRequest"]> ? true : false>();
isTrue<Wire<Required<ExtendOptions>> extends Required<Schemas["ExtendRequest"]> ? true : false>();
isTrue<Wire<Required<ReleaseOptions>> extends Required<Schemas["ReleaseRequest"]> ? true : false>();
isTrue<Same<keyof Wire<AcquireOptions>, keyof Schemas["AcquireRequest"]>>();
isTrue<Same<keyof Wire<ExtendOptions>, keyof Schemas["ExtendRequest"]>>();
isTrue<Same<keyof Wire<ReleaseOptions>, keyof Schemas["ReleaseRequest"]>>();
isTrue<Same<keyof Wire<LockOptions>, keyof Schemas["AcquireRequest"]>>();

export async function acquires(): Promise<void> {
  const plain = await everlock.acquire({ key: "k" });
  isTrue<Same<typeof plain, Acquired>>();
  isTrue<Same<typeof plain.acquired, true>>();
  isTrue<Same<typeof plain.fencingToken, number>>();
  const soft = await everlock.acquire({ key: "k", softFail: true });
  isTrue<Same<typeof soft, AcquireResponse>>();
  if (soft.acquired) {
    isTrue<Same<typeof soft, Acquired>>();
  } else {
    isTrue<Same<typeof soft, NotAcquired>>();
    isTrue<Same<typeof soft.message, string>>();
    isTrue<Same<typeof soft.retryAfter, number | undefined>>();
  }
  const either = await everlock.acquire({ key: "k", softFail: maybe });
  isTrue<Same<typeof either, AcquireResponse>>();
  // @ts-expect-error: a key is required
  await everlock.acquire({});
  // @ts-expect-error: a lease is a number
  await everlock.acquire({ key: "k", lease: "10s" });
}

export async function holds(): Promise<void> {
  const extended = await everlock.extend({ key: "k", uuid: "u", extendBy: 1 });
  isTrue<Same<typeof extended, Extended>>();
  const softly = await everlock.extend({ key: "k", uuid: "u", extendBy: 1, softFail: true });
  isTrue<Same<typeof softly, ExtendResponse>>();
  const released = await everlock.release({ key: "k", uuid: "u" });
  isTrue<Same<typeof released, Released>>();
  const perhaps = await everlock.release({ key: "k", uuid: "u", softFail: true });
  isTrue<Same<typeof perhaps, ReleaseResponse>>();
  // The answer to an acquire has what a release needs.
  await everlock.release(plainConfig);
  // @ts-expect-error: extendBy is required
  await everlock.extend({ key: "k", uuid: "u" });
}
declare const plainConfig: Acquired["config"];

export async function runs(): Promise<void> {
  const promised = await everlock.withLock({ key: "k" }, async (lock) => lock.fencingToken);
  isTrue<Same<typeof promised, number>>();
  const plain = await everlock.withLock({ key: "k" }, () => "text");
  isTrue<Same<typeof plain, string>>();
  await using lock = await everlock.lock({ key: "k" });
  isTrue<Same<typeof lock, Lock>>();
  isTrue<Lock extends AsyncDisposable ? true : false>();
  // @ts-expect-error: a token is not for the caller to set
  lock.fencingToken = 1;
}

isTrue<{ endpoint: string } extends ClientOptions ? true : false>();
isTrue<typeof fetch extends NonNullable<ClientOptions["fetch"]> ? true : false>();

test("the types are what they are meant to be", () => {});
