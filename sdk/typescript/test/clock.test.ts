// Clients whose wall clock is wrong, or is set while they hold a lock.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Everlock, LockLostError, uuidv7 } from "@everlock/client";
import { type Server, devProxy, isFree } from "./servers.js";

const YEAR = 365 * 24 * 3_600_000;

let server: Server;
const realNow = Date.now;
before(async () => {
  server = await devProxy();
});
after(async () => {
  await server.stop();
});
afterEach(() => {
  Date.now = realNow;
});

function skew(millis: number): void {
  Date.now = () => realNow() + millis;
}

test("a clock that is wrong by years makes no difference", async () => {
  const everlock = new Everlock({ endpoint: server.url });
  for (const years of [-60, -1, 10, 1_000]) {
    skew(years * YEAR);
    let token = 0;
    for (let round = 0; round < 3; round += 1) {
      await everlock.withLock({ key: "skewed", lease: 5_000 }, (lock) => {
        assert.ok(lock.isHeld && lock.remainingMs > 0 && lock.remainingMs <= 5_000);
        assert.ok(lock.fencingToken > token);
        token = lock.fencingToken;
      });
    }
    assert.ok(await isFree(server.url, "skewed"));
  }
});

test("a clock that is set back prolongs no lock", async () => {
  const everlock = new Everlock({ endpoint: server.url });
  const lock = await everlock.lock({ key: "back", lease: 5_000, renew: false });
  skew(-YEAR);
  assert.ok(lock.isHeld && lock.remainingMs <= 5_000);
  await lock.release();
});

test("time that only the wall clock saw counts: the machine may have slept", async () => {
  const everlock = new Everlock({ endpoint: server.url });
  const lock = await everlock.lock({ key: "asleep", lease: 5_000 });
  skew(6_000);
  assert.ok(!lock.isHeld && lock.remainingMs === 0);
  assert.throws(() => lock.throwIfLost(), LockLostError);
  await assert.rejects(lock.release(), LockLostError);
  // It is released all the same.
  assert.ok(await isFree(server.url, "asleep"));
});

test("uuids are of version 7, unique, and of any clock", () => {
  const form = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
  for (const millis of [-1, 0, 1_700_000_000_000, 2 ** 48 - 1, 2 ** 60, Number.NaN, Infinity]) {
    const uuid = uuidv7(millis);
    assert.match(uuid, form);
    const expected = Number.isNaN(millis) ? 0 : Math.min(Math.max(millis, 0), 2 ** 48 - 1);
    assert.equal(parseInt(uuid.replaceAll("-", "").slice(0, 12), 16), expected, `${millis}`);
  }
  assert.equal(new Set(Array.from({ length: 10_000 }, () => uuidv7(1))).size, 10_000);
});
