// What a program written for Evermind's client does, and what every call says when it fails.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import {
  AuthenticationError,
  ConfigurationError,
  ContendedError,
  Everlock,
  Evermind,
  InvalidRequestError,
  NotHeldError,
  UnavailableError,
  UnexpectedResponseError,
} from "@everlock/client";
import { type FaultProxy, faultProxy } from "./faults.js";
import { type Server, devProxy, isFree } from "./servers.js";

let server: Server;
let proxy: FaultProxy;
before(async () => {
  server = await devProxy();
  proxy = await faultProxy(server.url);
});
after(async () => {
  await proxy.stop();
  await server.stop();
});

test("the steps of Evermind's own example work", async () => {
  const evermind = new Evermind({ apiKey: "YOUR_API_KEY", endpoint: server.url });
  const response = await evermind.acquire({ key: "example", lease: 5000 });
  assert.ok(response.acquired);
  const uuid = response.config.uuid;
  const extended = await evermind.extend({ key: "example", uuid, extendBy: 2000 });
  assert.ok(extended.extended);
  const released = await evermind.release({ key: "example", uuid, softFail: true });
  assert.ok(released.released);
  const result = await evermind.withLock({ key: "example" }, async () => "done");
  assert.equal(result, "done");
});

test("a request carries method, content type, key and the caller's headers", async () => {
  const everlock = new Everlock({ endpoint: `${proxy.url}/`, apiKey: "secret-1", headers: { "x-tenant": "t" } });
  await everlock.withLock({ key: "headers" }, () => {});
  const { path, headers } = proxy.seen.at(-1)!;
  assert.equal(path, "/lock/release");
  assert.equal(headers["content-type"], "application/json");
  assert.equal(headers["authorization"], "Bearer secret-1");
  assert.equal(headers["x-tenant"], "t");
});

test("an API key stands in no inspection and in no error", async () => {
  const everlock = new Everlock({ endpoint: "http://127.0.0.1:1", apiKey: "secret-2", retry: false });
  const error: unknown = await everlock.acquire({ key: "k" }).catch((error: unknown) => error);
  assert.ok(error instanceof UnavailableError);
  const shown = inspect([everlock, error], { depth: 20, showHidden: true });
  assert.ok(!shown.includes("secret-2"), shown);
  const broken = (): unknown => new Everlock({ endpoint: "http://127.0.0.1:1", apiKey: "secret-3\n" + "x" });
  assert.throws(broken, (error: Error) => {
    return error instanceof ConfigurationError && !inspect(error, { depth: 20 }).includes("secret-3");
  });
});

test("a prefix stands before every key, and callers don't see it", async () => {
  const billing = new Everlock({ endpoint: server.url, prefix: "billing" });
  const { config } = await billing.acquire({ key: "invoice" });
  assert.equal(config.key, "invoice");
  assert.equal(await isFree(server.url, "billing:invoice"), false);
  assert.equal(await isFree(server.url, "invoice"), true);
  await billing.extend({ key: "invoice", uuid: config.uuid, extendBy: 10 });
  await billing.release({ key: config.key, uuid: config.uuid });
  assert.equal(await isFree(server.url, "billing:invoice"), true);
});

test("what a lock operation refuses is a typed error, or with softFail an answer", async () => {
  const everlock = new Everlock({ endpoint: server.url });
  const { config } = await everlock.acquire({ key: "refused", lease: 60_000 });
  const again = { key: "refused", retryAttempts: 1, retryDelay: 1 };
  await assert.rejects(everlock.acquire(again), (error: ContendedError) => {
    assert.ok(error instanceof ContendedError);
    assert.deepEqual([error.code, error.status, error.attempts], ["contended", 409, 2]);
    assert.ok(error.retryAfterMs! > 50_000 && error.retryAfterMs! <= 60_000);
    assert.ok(error.requestId !== undefined);
    return true;
  });
  const soft = await everlock.acquire({ ...again, softFail: true });
  assert.ok(!soft.acquired);
  assert.deepEqual([soft.message, soft.config.key], ["the lock is held by others", "refused"]);

  const other = { key: "refused", uuid: "other", extendBy: 10 };
  const nothing = { key: "nothing", uuid: config.uuid, extendBy: 10 };
  for (const [options, heldByAnother] of [[other, true], [nothing, false]] as const) {
    const isNotHeld = (error: NotHeldError): boolean =>
      error instanceof NotHeldError && error.heldByAnother === heldByAnother;
    await assert.rejects(everlock.extend(options), isNotHeld);
    await assert.rejects(everlock.release(options), isNotHeld);
    assert.equal((await everlock.extend({ ...options, softFail: true })).extended, false);
    assert.equal((await everlock.release({ ...options, softFail: true })).released, false);
  }
});

test("a mistaken request is an error that names field and bound, also with softFail", async () => {
  const everlock = new Everlock({ endpoint: server.url });
  const names = (field: string) => (error: Error): boolean =>
    error instanceof InvalidRequestError && error.message.startsWith(`${field} `);
  await assert.rejects(everlock.acquire({ key: "" }), names("key"));
  await assert.rejects(everlock.acquire({ key: "k", lease: 1, softFail: true }), names("lease"));
  await assert.rejects(everlock.acquire({ key: "k", retryAttempts: -1 }), names("retryAttempts"));
  // JSON would make null of it, and the server of that the default.
  await assert.rejects(everlock.acquire({ key: "k", lease: Number.NaN }), names("lease"));
  await assert.rejects(everlock.extend({ key: "k", uuid: "u", extendBy: Infinity }), names("extendBy"));
});

test("keys are any text", async () => {
  const everlock = new Everlock({ endpoint: server.url });
  for (const key of ['"quotes"', "{braces}", "line\nbreak", "nul\0", "co:lon", "ключ 🔒", "x".repeat(512)]) {
    assert.equal(await everlock.withLock({ key }, (lock) => lock.key), key);
  }
});

test("what is none of this API is told apart", async () => {
  const everlock = new Everlock({ endpoint: proxy.url });
  for (const [status, kind] of [
    [401, AuthenticationError],
    [403, AuthenticationError],
    [413, InvalidRequestError],
    [404, UnexpectedResponseError],
    [200, UnexpectedResponseError],
    [302, UnexpectedResponseError],
  ] as const) {
    proxy.plan({ kind: "answer", status, body: "<html>" });
    await assert.rejects(everlock.acquire({ key: "k" }), (error: Error) => error instanceof kind);
  }
  await everlock.settled();
});

test("a client that can't work is not constructed", () => {
  for (const options of [
    { endpoint: "" },
    { endpoint: "127.0.0.1:8080" },
    { endpoint: "ftp://host" },
    { endpoint: "http://user:password@host" },
    { endpoint: "http://host/?a" },
    { endpoint: "http://host", timeoutMs: 0 },
    { endpoint: "http://host", timeoutMs: Number.NaN },
    { endpoint: "http://host", retry: { attempts: -1 } },
  ]) {
    assert.throws(() => new Everlock(options), ConfigurationError, JSON.stringify(options));
  }
});

test("a client is made from the environment", async () => {
  const environment = { EVERLOCK_ENDPOINT: ` ${server.url} `, EVERLOCK_PREFIX: "env", EVERMIND_API_KEY: "k" };
  const everlock = Everlock.fromEnv({}, environment);
  const { config } = await everlock.acquire({ key: "k" });
  assert.equal(await isFree(server.url, "env:k"), false);
  await everlock.release(config);
  assert.ok(Evermind.fromEnv({ endpoint: server.url }, {}) instanceof Evermind);
  assert.ok(Everlock.fromEnv({}, { EVERMIND_BASE_URL: server.url }) instanceof Everlock);
  assert.throws(() => Everlock.fromEnv({}, { EVERLOCK_ENDPOINT: " " }), ConfigurationError);
});

test("one's own fetch is used", async () => {
  let calls = 0;
  const everlock = new Everlock({
    endpoint: server.url,
    fetch: (input, init) => {
      calls += 1;
      return fetch(input, init);
    },
  });
  await everlock.withLock({ key: "fetch" }, () => {});
  assert.equal(calls, 2);
});
