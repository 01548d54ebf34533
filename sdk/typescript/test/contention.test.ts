// Many at once: never two inside, and each with a higher token than the one before.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Everlock } from "@everlock/client";
import { type Server, clusterProxy, devProxy, isFree } from "./servers.js";

const CLIENTS = 200;

let dev: Server;
let cluster: Server;
before(async () => {
  dev = await devProxy();
  cluster = await clusterProxy();
});
after(async () => {
  await dev.stop();
  await cluster.stop();
});

// Storage as it should be: it refuses whoever comes with a token that is not the highest.
class Storage {
  inside = 0;
  highest = 0;
  writes = 0;

  async write(token: number): Promise<void> {
    this.inside += 1;
    assert.equal(this.inside, 1, "two are inside");
    assert.ok(token > this.highest, `${token} after ${this.highest}`);
    this.highest = token;
    await sleep(1);
    this.writes += 1;
    this.inside -= 1;
  }
}

async function crowd(server: Server, fifo: boolean): Promise<void> {
  const everlock = new Everlock({ endpoint: server.url });
  const storage = new Storage();
  const key = `crowd-${fifo}`;
  const wait = { retryAttempts: 500, retryDelay: 100, retryJitter: 100, lease: 20_000, fifo };
  const client = (): Promise<void> => everlock.withLock({ key, ...wait }, (lock) => storage.write(lock.fencingToken));
  await Promise.all(Array.from({ length: CLIENTS }, client));
  assert.equal(storage.writes, CLIENTS);
  assert.ok(await isFree(server.url, key));
}

test("200 at once on one key never overlap, in development mode", () => crowd(dev, false));
test("200 at once on one key never overlap, over five nodes", () => crowd(cluster, false));
test("200 at once on one key never overlap, in line over five nodes", () => crowd(cluster, true));
