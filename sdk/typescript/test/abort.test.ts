// Callers that give up, at every moment: at once, and with nothing left behind.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Everlock } from "@everlock/client";
import { type Fault, type FaultProxy, PASS, faultProxy } from "./faults.js";
import { type Server, SOON, clusterProxy, eventually, isFree } from "./servers.js";

let server: Server;
let proxy: FaultProxy;
let everlock: Everlock;
before(async () => {
  server = await clusterProxy();
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
  everlock = new Everlock({ endpoint: proxy.url, retry: { baseDelayMs: 10 } });
});

class GivenUp extends Error {}

// Aborts a call after so many milliseconds. Whether it was ended by that; it may be done before.
async function aborted(after: number, call: (signal: AbortSignal) => Promise<unknown>): Promise<boolean> {
  const controller = new AbortController();
  const reason = new GivenUp();
  const called = call(controller.signal);
  called.catch(() => {});
  if (after > 0) {
    await sleep(after);
  }
  controller.abort(reason);
  const started = performance.now();
  const outcome = await called.then(() => undefined, (error: unknown) => error);
  assert.ok(performance.now() - started < SOON / 4, "it ends at once");
  assert.ok(outcome === undefined || outcome === reason, String(outcome));
  return outcome === reason;
}

test("a signal that was aborted before sends nothing", async () => {
  const signal = AbortSignal.abort(new GivenUp());
  await assert.rejects(everlock.acquire({ key: "k", signal }), GivenUp);
  await assert.rejects(everlock.lock({ key: "k", signal }), GivenUp);
  await assert.rejects(everlock.extend({ key: "k", uuid: "u", extendBy: 1, signal }), GivenUp);
  await assert.rejects(everlock.release({ key: "k", uuid: "u", signal }), GivenUp);
  await assert.rejects(everlock.withLock({ key: "k", signal }, () => assert.fail("it runs")), GivenUp);
  await everlock.settled();
  assert.equal(proxy.seen.length, 0);
});

test("an acquire that is aborted at any moment holds nothing", async () => {
  const slow: Fault = { kind: "slow", millis: 20 };
  const late: Fault = { kind: "late", millis: 200 };
  let ended = 0;
  const keys: string[] = [];
  for (const [name, fault] of Object.entries({ pass: PASS, slow, late, lose: { kind: "lose-answer" } as Fault })) {
    proxy.always((seen) => (seen.path === "/lock/acquire" ? fault : PASS));
    for (let after = 0; after <= 24; after += 2) {
      const key = `abort-${name}-${after}`;
      const acquire = async (signal: AbortSignal): Promise<void> => {
        const { config } = await everlock.acquire({ key, lease: 60_000, signal });
        await everlock.release({ key, uuid: config.uuid });
      };
      ended += Number(await aborted(after, acquire));
      keys.push(key);
    }
  }
  await everlock.settled();
  assert.ok(ended > 10, `only ${ended} were aborted before their end`);
  for (const key of keys) {
    await eventually(`${key} is free`, () => isFree(server.url, key));
  }
});

test("a waiter that gives up does not get the lock afterwards", async () => {
  const holder = await everlock.acquire({ key: "waited", lease: 60_000 });
  const wait = { key: "waited", lease: 60_000, retryAttempts: 100, retryDelay: 100 };
  for (const fifo of [false, true]) {
    for (const after of [0, 5, 50, 250]) {
      const waits = (signal: AbortSignal): Promise<unknown> => everlock.acquire({ ...wait, fifo, signal });
      assert.ok(await aborted(after, waits));
    }
  }
  await everlock.settled();
  await everlock.release(holder.config);
  await eventually("the lock is free", () => isFree(server.url, "waited"));
});

test("an abort ends the pause before a retry, too", async () => {
  proxy.always(() => ({ kind: "answer", status: 429, headers: { "retry-after": "20" } }));
  assert.ok(await aborted(100, (signal) => everlock.acquire({ key: "k", signal })));
  assert.ok(await aborted(100, (signal) => everlock.release({ key: "k", uuid: "u", signal })));
  assert.ok(await aborted(100, (signal) => everlock.extend({ key: "k", uuid: "u", extendBy: 1, signal })));
  await everlock.settled();
  assert.equal(proxy.seen.length, 3, "and nothing has to be undone");
});

test("withLock is not begun for who gave up", async () => {
  for (const after of [0, 2, 4, 8, 16]) {
    const key = `with-${after}`;
    let ran = false;
    const run = (signal: AbortSignal): Promise<void> =>
      everlock.withLock({ key, lease: 60_000, signal }, () => {
        ran = true;
      });
    const ended = await aborted(after, run);
    assert.ok(!(ended && ran), "it ran or was given up, not both");
  }
  await everlock.settled();
  for (const after of [0, 2, 4, 8, 16]) {
    await eventually("the lock is free", () => isFree(server.url, `with-${after}`));
  }
});
