// Answers that get lost, connections that break, servers that say: later.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { type ErrorCode, Everlock, EverlockError, RateLimitedError, TimeoutError, UnavailableError } from "@everlock/client";
import { type Fault, type FaultProxy, PASS, faultProxy } from "./faults.js";
import { type Cluster, type Server, clusterProxy, devProxy, eventually, isFree } from "./servers.js";

let server: Server;
let cluster: Cluster;
let proxy: FaultProxy;
let everlock: Everlock;
before(async () => {
  server = await devProxy();
  cluster = await clusterProxy();
  proxy = await faultProxy(server.url);
});
after(async () => {
  await proxy.stop();
  await cluster.stop();
  await server.stop();
});
afterEach(async () => {
  // What is undone in the background is no request of the next test.
  proxy.always(() => PASS);
  await everlock.settled();
});
beforeEach(() => {
  proxy.seen.length = 0;
  proxy.always(() => PASS);
  everlock = new Everlock({ endpoint: proxy.url, retry: { baseDelayMs: 10 } });
});

const RESET: Fault = { kind: "reset" };
const LOSE: Fault = { kind: "lose-answer" };
const CUT: Fault = { kind: "cut-answer" };
const answer = (status: number, headers: Record<string, string> = {}): Fault => ({ kind: "answer", status, headers });

const ofVerb = (verb: string) => proxy.seen.filter((seen) => seen.path === `/lock/${verb}`);

test("an acquire whose answer was lost is asked for again, and is the same lock", async () => {
  for (const fault of [LOSE, CUT, RESET, answer(502), answer(503), answer(504)]) {
    proxy.seen.length = 0;
    proxy.plan(fault, fault);
    const key = `again-${fault.kind}-${"status" in fault ? fault.status : ""}`;
    const { config } = await everlock.acquire({ key, lease: 60_000 });
    assert.equal(proxy.seen.length, 3);
    const uuids = new Set(proxy.seen.map((seen) => seen.body["uuid"]));
    assert.deepEqual([...uuids], [config.uuid]);
    await everlock.release({ key, uuid: config.uuid });
    assert.ok(await isFree(server.url, key));
  }
});

test("an acquire of which no answer ever arrives leaves no lock that nobody knows", async () => {
  const keys = [];
  for (const fault of [LOSE, CUT, RESET]) {
    const key = `lost-${fault.kind}`;
    keys.push(key);
    proxy.always((seen) => (seen.path === "/lock/acquire" ? fault : PASS));
    await assert.rejects(everlock.acquire({ key, lease: 60_000 }), (error: UnavailableError) => {
      return error instanceof UnavailableError && error.ambiguous;
    });
    assert.equal(ofVerb("acquire").length % 4, 0, "the first and three more");
  }
  await everlock.settled();
  for (const key of keys) {
    assert.ok(await isFree(server.url, key), key);
  }
});

test("an acquire that arrives after it was given up is undone, too", async () => {
  const impatient = new Everlock({ endpoint: proxy.url, retry: false, timeoutMs: 50 });
  proxy.always((seen) => (seen.path === "/lock/acquire" ? { kind: "late", millis: 150 } : PASS));
  await assert.rejects(impatient.acquire({ key: "late", lease: 60_000, retryAttempts: 0 }), TimeoutError);
  await impatient.settled();
  // The release that came first found nothing; a later one found the lock.
  assert.ok(ofVerb("release").length >= 2);
  assert.ok(await isFree(server.url, "late"));
});

test("the timeout of an acquire is above the wait that it asks for", async () => {
  const holder = await everlock.acquire({ key: "wait", lease: 60_000 });
  const impatient = new Everlock({ endpoint: proxy.url, timeoutMs: 500, retry: false });
  const waiting = impatient.acquire({ key: "wait", retryAttempts: 20, retryDelay: 100 });
  setTimeout(() => void everlock.release({ key: "wait", uuid: holder.config.uuid }), 1_000);
  const { config } = await waiting;
  await everlock.release(config);
});

test("a server that never answers is a timeout, after the retries, and nothing is left", async () => {
  const impatient = new Everlock({ endpoint: proxy.url, timeoutMs: 50, retry: { attempts: 2, baseDelayMs: 1 } });
  proxy.always((seen) => (seen.path === "/lock/acquire" ? { kind: "swallow-answer" } : PASS));
  const options = { key: "silence", lease: 60_000, retryAttempts: 0 };
  await assert.rejects(impatient.acquire(options), (error: TimeoutError) => {
    return error instanceof TimeoutError && error.ambiguous && error.code === "timeout";
  });
  assert.equal(ofVerb("acquire").length, 3);
  await impatient.settled();
  assert.ok(await isFree(server.url, "silence"));
});

test("a wait that is asked for again is not begun anew", async () => {
  const holder = await everlock.acquire({ key: "rest", lease: 60_000 });
  proxy.plan({ kind: "answer", status: 503, headers: { "retry-after": "1" } });
  const wait = { retryAttempts: 20, retryDelay: 100 };
  await assert.rejects(everlock.acquire({ key: "rest", ...wait }), (error: EverlockError) => error.code === "contended");
  const asked = ofVerb("acquire").slice(1).map((seen) => seen.body["retryAttempts"] as number);
  assert.equal(asked[0], 20);
  assert.ok(asked[1]! <= 10, `${asked[1]} retries are asked for after half of the wait`);
  await everlock.release(holder.config);
});

test("Retry-After is waited for, in seconds and as a date", async () => {
  const date = new Date("2031-05-05T05:05:05Z");
  for (const headers of [
    { "retry-after": "1" },
    // A date is the server's: the client's own clock says nothing about it.
    { "retry-after": new Date(date.getTime() + 1_000).toUTCString(), date: date.toUTCString() },
  ]) {
    for (const status of [429, 503]) {
      proxy.seen.length = 0;
      proxy.plan(answer(status, headers));
      const { config } = await everlock.acquire({ key: "later" });
      const [first, second] = proxy.seen;
      assert.ok(second!.at - first!.at >= 990, `${second!.at - first!.at} ms`);
      await everlock.release(config);
    }
  }
});

test("a Retry-After that is too long is told instead of waited for", async () => {
  proxy.plan(answer(429, { "retry-after": "3600" }));
  await assert.rejects(everlock.acquire({ key: "later" }), (error: RateLimitedError) => {
    return error instanceof RateLimitedError && error.retryAfterMs === 3_600_000;
  });
  assert.equal(proxy.seen.length, 1);
});

test("what does not pass is not sent again", async () => {
  for (const [status, code] of [[400, "invalid_request"], [401, "unauthenticated"], [403, "forbidden"]] as const) {
    proxy.seen.length = 0;
    proxy.always(() => answer(status));
    const isCode = (error: EverlockError): boolean => error.code === (code satisfies ErrorCode);
    await assert.rejects(everlock.acquire({ key: "k" }), isCode);
    await assert.rejects(everlock.extend({ key: "k", uuid: "u", extendBy: 10 }), isCode);
    await assert.rejects(everlock.release({ key: "k", uuid: "u" }), isCode);
    assert.equal(proxy.seen.length, 3);
  }
});

test("an extend is never sent again blindly", async () => {
  const { config } = await everlock.acquire({ key: "extend", lease: 60_000 });
  const extend = { key: "extend", uuid: config.uuid, extendBy: 1_000 };
  for (const fault of [LOSE, CUT, RESET, answer(502), answer(503), answer(504)]) {
    proxy.seen.length = 0;
    proxy.plan(fault);
    await assert.rejects(everlock.extend(extend), (error: UnavailableError) => {
      return error instanceof UnavailableError && error.ambiguous;
    });
    assert.equal(proxy.seen.length, 1, fault.kind);
  }
  // Only what the server refused before it did anything.
  proxy.seen.length = 0;
  proxy.plan(answer(429));
  assert.ok((await everlock.extend(extend)).extended);
  assert.equal(proxy.seen.length, 2);
  await everlock.release(config);
});

test("a release whose answer was lost is asked for again, and content to find nothing", async () => {
  for (const fault of [LOSE, CUT, RESET, answer(502)]) {
    const { config } = await everlock.acquire({ key: "release", lease: 60_000 });
    proxy.plan(fault);
    assert.ok((await everlock.release(config)).released);
    assert.ok(await isFree(server.url, "release"));
  }
});

test("an outage of the nodes is told as such, and what was lost in it is found again", async () => {
  const client = new Everlock({ endpoint: cluster.url, retry: { attempts: 1, baseDelayMs: 10 } });
  cluster.pause(3);
  try {
    await assert.rejects(client.acquire({ key: "outage", lease: 60_000, retryAttempts: 0 }), (error: UnavailableError) => {
      return error instanceof UnavailableError && error.status === 503 && error.retryAfterMs === 1_000;
    });
    const soft = await client.acquire({ key: "outage", retryAttempts: 0, softFail: true });
    assert.equal(soft.acquired, false);
  } finally {
    cluster.resume();
  }
  await client.settled();
  await eventually("the lock is free", async () => {
    const got = await client.acquire({ key: "outage", retryAttempts: 0, softFail: true });
    return got.acquired && (await client.release(got.config)).released;
  });
});
