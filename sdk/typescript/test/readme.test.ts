// The examples of the README, each run as it stands there, but for the address.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Server, devProxy } from "./servers.js";

const folder = fileURLToPath(new URL("./examples/", import.meta.url));
const examples = readdirSync(folder).filter((name) => name.endsWith(".js"));

let server: Server;
const runs = new Map<string, Promise<[number | null, string]>>();
before(async () => {
  server = await devProxy();
  for (const name of examples) {
    runs.set(name, run(name));
  }
});
after(async () => {
  await server.stop();
});

for (const name of examples) {
  test(`${name} of the README runs`, async () => {
    const [code, printed] = await runs.get(name)!;
    assert.equal(code, 0, printed);
    assert.notEqual(printed, "", "every example says what it did");
  });
}

function run(name: string): Promise<[number | null, string]> {
  const env = { ...process.env, EXAMPLES_ENDPOINT: server.url, EVERLOCK_ENDPOINT: server.url };
  const example = spawn(process.execPath, [folder + name], { env, stdio: ["ignore", "pipe", "pipe"] });
  let printed = "";
  const note = (chunk: Buffer): void => {
    printed += chunk.toString();
  };
  example.stdout.on("data", note);
  example.stderr.on("data", note);
  return new Promise((resolve) => example.on("close", (code) => resolve([code, printed])));
}
