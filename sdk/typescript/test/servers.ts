// Real servers for the tests: the proxy, in development mode or over redis-servers, on free ports.
// Each has an owner who stops it; a process that dies takes its servers with it.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, existsSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";

// Generous on a busy machine; only a test that fails waits this long.
export const SOON = 20_000;

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const NODES = 5;

const children = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of children) {
    child.kill("SIGKILL");
  }
});

export interface Server {
  readonly url: string;
  stop(): Promise<void>;
}

// The newest build: what `cargo build` made last is what is meant to be tested.
function binary(): string {
  const target = process.env["CARGO_TARGET_DIR"] ?? join(ROOT, "target");
  const built = ["debug", "release"]
    .map((profile) => join(target, profile, "everlock"))
    .filter((path) => existsSync(path))
    .sort((one, other) => statSync(other).mtimeMs - statSync(one).mtimeMs);
  if (built[0] === undefined) {
    throw new Error(`there is no proxy in ${target}: cargo build -p everlock-proxy`);
  }
  return built[0];
}

// A proxy with nodes in its memory.
export async function devProxy(...flags: string[]): Promise<Server> {
  return proxy(["--dev", ...flags]);
}

export interface Cluster extends Server {
  // Stops and continues the nodes, so that they don't answer in between.
  pause(nodes: number): void;
  resume(): void;
}

// A proxy over five redis-servers.
export async function clusterProxy(...flags: string[]): Promise<Cluster> {
  const folder = mkdtempSync(join(tmpdir(), "everlock-sdk-"));
  const ports = await freePorts(NODES);
  const nodes = ports.map((port) => redis(folder, port));
  const urls = ports.flatMap((port) => ["--node", `redis://127.0.0.1:${port}`]);
  const init = spawnSync(binary(), ["cluster", "init", "--wait", "20s", ...urls], { encoding: "utf8" });
  if (init.status !== 0) {
    throw new Error(`the nodes can't be opened: ${init.stdout}${init.stderr}`);
  }
  const served = await proxy([...urls, ...flags]);
  return {
    url: served.url,
    pause: (count) => nodes.slice(0, count).forEach((node) => node.kill("SIGSTOP")),
    resume: () => nodes.forEach((node) => node.kill("SIGCONT")),
    stop: async () => {
      await served.stop();
      await Promise.all(nodes.map((node) => end(node, "SIGKILL")));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function redis(folder: string, port: number): ChildProcess {
  // The tag in the title lets scripts/test see that none is left.
  const tag = `everlock-test-${process.env["TESTKIT_RUN"] ?? process.pid}`;
  const options = {
    bind: "127.0.0.1",
    port: String(port),
    dir: folder,
    save: "",
    appendonly: "no",
    "proc-title-template": `{title} {listen-addr} ${tag}`,
  };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  return child("redis-server", args);
}

async function proxy(args: string[]): Promise<Server> {
  const [port] = await freePorts(1);
  const url = `http://127.0.0.1:${port}`;
  const process = child(binary(), ["serve", "--listen", `127.0.0.1:${port}`, ...args]);
  const deadline = Date.now() + SOON;
  for (;;) {
    const answer = await fetch(`${url}/readyz`).catch(() => undefined);
    if (answer?.ok) {
      return { url, stop: () => end(process, "SIGTERM") };
    }
    if (Date.now() > deadline || process.exitCode !== null) {
      throw new Error(`the proxy does not get ready: ${JSON.stringify(await answer?.text())}`);
    }
    await sleep(20);
  }
}

function child(command: string, args: string[]): ChildProcess {
  // Their logs are for who looks for a fault. Else they must not hold this process's pipes: the
  // test runner waits until those are closed.
  const log = process.env["EVERLOCK_TEST_LOGS"] === undefined ? "ignore" : "inherit";
  const started = spawn(command, args, { stdio: ["ignore", "ignore", log] });
  children.add(started);
  return started;
}

async function end(process: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (process.exitCode === null && process.signalCode === null) {
    const ended = new Promise((resolve) => process.once("exit", resolve));
    process.kill(signal);
    await ended;
  }
  children.delete(process);
}

// Ports that were free a moment ago; all are bound together, so that they differ.
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve) => {
          server.listen(0, "127.0.0.1", () => {
            resolve((server.address() as { port: number }).port);
          });
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

// Waits for a condition.
export async function eventually(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + SOON;
  while (!(await condition())) {
    if (Date.now() > deadline) {
      throw new Error(`it never came about that ${what}`);
    }
    await sleep(20);
  }
}

// Whether the lock is free, told by acquiring and releasing it without this package.
export async function isFree(url: string, key: string): Promise<boolean> {
  const uuid = `probe-${Math.random()}`;
  const post = (verb: string): Promise<Response> =>
    fetch(`${url}/lock/${verb}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ key, uuid, retryAttempts: 0, lease: 5_000 }),
    });
  const acquired = await post("acquire");
  if (acquired.status === 409) {
    return false;
  }
  if (acquired.status !== 200) {
    throw new Error(`probing ${key}: ${acquired.status} ${await acquired.text()}`);
  }
  await post("release");
  return true;
}
