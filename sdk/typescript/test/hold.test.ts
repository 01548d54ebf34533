// Locks that are held: renewed while they are, and given up or lost with everybody told.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ContendedError, Everlock, EverlockError, Lock, LockLostError, UnavailableError } from "@everlock/client";
import { type Fault, type FaultProxy, PASS, faultProxy } from "./faults.js";
import { type Server, devProxy, eventually, isFree } from "./servers.js";

// Long enough that a busy machine misses none of its thirds.
const LEASE = 3_000;

let server: Server;
let proxy: FaultProxy;
let everlock: Everlock;
let failures: EverlockError[] = [];
before(async () => {
  server = await devProxy();
  proxy = await faultProxy(server.url);
});
after(async () => {
  await proxy.stop();
  await server.stop();
});
afterEach(async () => {
  // What is undone in the background is no request of the next test.
  proxy.always(() => PASS);
  await everlock.settled();
});
beforeEach(() => {
  proxy.always(() => PASS);
  proxy.seen.length = 0;
  failures = [];
  everlock = new Everlock({
    endpoint: proxy.url,
    retry: { baseDelayMs: 10 },
    onReleaseFailure: (error) => failures.push(error),
  });
});

const UNAVAILABLE: Fault = { kind: "answer", status: 503 };
const onVerb = (verb: string, fault: Fault) => (seen: { path: string }) => (seen.path === `/lock/${verb}` ? fault : PASS);
const times = (verb: string): number => proxy.seen.filter((seen) => seen.path === `/lock/${verb}`).length;

test("withLock gives back the routine's result and releases", async () => {
  const result = await everlock.withLock({ key: "result" }, async (lock) => {
    assert.ok(lock instanceof Lock && lock.isHeld && !lock.signal.aborted);
    assert.ok(lock.fencingToken > 0 && lock.remainingMs > 0 && lock.expiresAt.getTime() > Date.now());
    assert.equal(await isFree(server.url, "result"), false);
    return 42;
  });
  assert.equal(result, 42);
  assert.ok(await isFree(server.url, "result"));
});

test("withLock runs nothing unless the lock was acquired", async () => {
  const { config } = await everlock.acquire({ key: "taken", lease: 60_000 });
  const run = everlock.withLock({ key: "taken", retryAttempts: 0, softFail: true }, () => assert.fail("it runs"));
  await assert.rejects(run, ContendedError);
  await everlock.release(config);
});

test("withLock rejects with the routine's own error, whatever came of the release", async () => {
  const error = new Error("the routine's own");
  const fail = (): never => {
    throw error;
  };
  await assert.rejects(everlock.withLock({ key: "throws" }, fail), error);
  await assert.rejects(everlock.withLock({ key: "throws" }, async () => fail()), error);
  assert.ok(await isFree(server.url, "throws"));
  assert.equal(failures.length, 0);
  proxy.always(onVerb("release", UNAVAILABLE));
  await assert.rejects(everlock.withLock({ key: "throws" }, fail), error);
  assert.ok(failures[0] instanceof UnavailableError);
});

test("a release that nobody could be told of hides no result", async () => {
  proxy.always(onVerb("release", UNAVAILABLE));
  assert.equal(await everlock.withLock({ key: "unreleased" }, () => "done"), "done");
  assert.equal(failures.length, 1);
});

test("await using releases at the end of the block, and hides no error of it", async () => {
  const error = new Error("the block's own");
  proxy.always(onVerb("release", UNAVAILABLE));
  await assert.rejects(async () => {
    await using lock = await everlock.lock({ key: "block" });
    assert.ok(lock.isHeld);
    throw error;
  }, error);
  assert.equal(failures.length, 1);
  proxy.always(() => PASS);
  let outside: Lock;
  {
    await using lock = await everlock.lock({ key: "block-2" });
    outside = lock;
  }
  assert.ok(!outside.isHeld && outside.remainingMs === 0 && !outside.signal.aborted);
  assert.ok(await isFree(server.url, "block-2"));
});

test("release may be called twice, also at once", async () => {
  const lock = await everlock.lock({ key: "twice" });
  await Promise.all([lock.release(), lock.release()]);
  await lock.release();
  assert.equal(times("release"), 1);
});

test("a lock is renewed for as long as it is held, also where answers get lost", async () => {
  let count = 0;
  proxy.always((seen) => {
    count += Number(seen.path === "/lock/extend");
    return seen.path === "/lock/extend" && count % 2 === 1 ? { kind: "lose-answer" } : PASS;
  });
  await everlock.withLock({ key: "renewed", lease: LEASE }, async (lock) => {
    const token = lock.fencingToken;
    await sleep(LEASE * 2);
    lock.throwIfLost();
    assert.ok(lock.isHeld && lock.fencingToken === token);
    assert.equal(await isFree(server.url, "renewed"), false);
  });
  assert.ok(count >= 4, `${count} extensions`);
  assert.ok(await isFree(server.url, "renewed"));
  const before = times("extend");
  await sleep(LEASE / 2);
  assert.equal(times("extend"), before, "nothing is extended after the release");
});

test("a lock that can't be renewed is lost before anybody else can have it", async () => {
  proxy.always(onVerb("extend", UNAVAILABLE));
  const lock = await everlock.lock({ key: "cut", lease: 1_000 });
  const direct = new Everlock({ endpoint: server.url });
  const next = direct.acquire({ key: "cut", retryAttempts: 400, retryDelay: 50 });
  const told = new Promise<void>((resolve) => lock.signal.addEventListener("abort", () => resolve()));
  const first = await Promise.race([told.then(() => "told"), next.then(() => "next")]);
  assert.equal(first, "told");
  assert.ok(lock.signal.reason instanceof LockLostError);
  assert.ok(lock.signal.reason.cause instanceof UnavailableError);
  assert.ok(!lock.isHeld && lock.remainingMs === 0);
  assert.throws(() => lock.throwIfLost(), LockLostError);
  await assert.rejects(lock.release(), LockLostError);
  const { config } = await next;
  await direct.release(config);
});

test("withLock tells that the lock was taken away while the routine ran, with its result", async () => {
  const thief = new Everlock({ endpoint: server.url });
  const run = everlock.withLock({ key: "stolen", lease: LEASE }, async (lock) => {
    await thief.release({ key: lock.key, uuid: lock.uuid });
    await thief.acquire({ key: lock.key, lease: 60_000, uuid: "thief" });
    await new Promise((resolve) => lock.signal.addEventListener("abort", resolve));
    return "done all the same";
  });
  await assert.rejects(run, (error: LockLostError) => {
    return error instanceof LockLostError && error.result === "done all the same";
  });
  // Nothing of the thief's was released.
  assert.equal(await isFree(server.url, "stolen"), false);
});

test("a loss that only the release finds out is told, too", async () => {
  const run = everlock.withLock({ key: "found", lease: 60_000 }, async (lock) => {
    await new Everlock({ endpoint: server.url }).release({ key: lock.key, uuid: lock.uuid });
  });
  await assert.rejects(run, LockLostError);
});

test("without renewal a lock ends, unless it is extended by hand", async () => {
  const lock = await everlock.lock({ key: "by-hand", lease: 2_000, renew: false });
  await lock.extend(60_000);
  assert.ok(lock.remainingMs > 55_000);
  assert.equal(times("extend"), 1);
  await lock.release();
  const short = await everlock.lock({ key: "short", lease: 100, renew: false });
  await eventually("it is lost", () => short.signal.aborted);
  await assert.rejects(short.extend(1_000), LockLostError);
  assert.equal(times("extend"), 1);
});

test("an answer that came late is not counted from its arrival", async () => {
  proxy.plan({ kind: "slow", millis: 1_500 });
  const lock = await everlock.lock({ key: "slow", lease: 2_000, renew: false });
  // So little would be left that the lock was asked for again, and is the same one.
  assert.equal(times("acquire"), 2);
  assert.equal(proxy.seen[0]!.body["uuid"], proxy.seen[1]!.body["uuid"]);
  assert.ok(lock.isHeld);
  await lock.release();
  // Where enough is left, it is counted from the sending.
  proxy.plan({ kind: "slow", millis: 1_000 });
  const long = await everlock.lock({ key: "slow", lease: 20_000, renew: false });
  assert.ok(long.remainingMs <= 19_000, `${long.remainingMs} ms`);
  await long.release();
});

test("a wait on the server takes nothing of the lease", async () => {
  const holder = await everlock.acquire({ key: "queue", lease: 60_000 });
  setTimeout(() => void everlock.release(holder.config), 1_500);
  const lock = await everlock.lock({ key: "queue", lease: 2_000, retryAttempts: 200, retryDelay: 100, renew: false });
  assert.equal(times("acquire"), 2, "the holder's and one of ours");
  assert.ok(lock.isHeld);
  await lock.release();
});
