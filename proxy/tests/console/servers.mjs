// Real nodes and the real proxy, on free ports. They end with this process at the latest.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

// Generous on a busy machine; only a test that fails waits this long.
export const SOON = 30_000;

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const children = new Set();
process.on('exit', () => children.forEach((child) => child.kill('SIGKILL')));

function binary() {
  const target = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target');
  const built = ['debug', 'release'].map((profile) => join(target, profile, 'everlock')).filter(existsSync)
    .sort((one, other) => statSync(other).mtimeMs - statSync(one).mtimeMs);
  if (!built.length) throw new Error(`there is no proxy in ${target}: cargo build -p everlock-proxy`);
  return built[0];
}

/** Waits for a condition. */
export async function until(what, condition) {
  const end = Date.now() + SOON;
  for (;;) {
    const reached = await condition();
    if (reached) return reached;
    if (Date.now() > end) throw new Error(`not within ${SOON} ms: ${what}`);
    await sleep(100);
  }
}

export async function freePort() {
  const server = createServer();
  await new Promise((done) => { server.listen(0, '127.0.0.1', done); });
  const { port } = server.address();
  await new Promise((done) => { server.close(done); });
  return port;
}

function start(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  children.add(child);
  child.output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part) => { child.output += part; });
  child.ended = new Promise((done) => { child.on('exit', done); });
  child.ended.then(() => children.delete(child));
  return child;
}

async function redis(folder, port, extra) {
  // The tag in the title lets scripts/test see that none is left.
  const tag = `everlock-test-${process.env.TESTKIT_RUN ?? process.pid}`;
  const child = start('redis-server', ['--port', port, '--bind', '127.0.0.1', '--save', '', '--dir', folder, ...extra,
    '--proc-title-template', `{title} {listen-addr} ${tag}`].map(String));
  await until('the node listens', () => child.output.includes('Ready to accept connections'));
  return child;
}

/** Redis nodes, opened for voting. */
export async function cluster(count, { durable = false } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'everlock-console-'));
  const ports = [];
  while (ports.length < count) ports.push(await freePort());
  const extra = (port) => (durable
    ? ['--appendonly', 'yes', '--appendfsync', 'always', '--appenddirname', `aof-${port}`] : []);
  const nodes = await Promise.all(ports.map((port) => redis(folder, port, extra(port))));
  const flags = ports.flatMap((port) => ['--node', `redis://127.0.0.1:${port}`]);
  const init = spawnSync(binary(), ['cluster', 'init', '--wait', '20s', ...flags], { encoding: 'utf8' });
  if (init.status !== 0) throw new Error(`the nodes can't be opened: ${init.stdout}${init.stderr}`);
  return {
    flags,
    names: ports.map((port) => `127.0.0.1:${port}`),
    kill: async (number) => { nodes[number].kill('SIGKILL'); await nodes[number].ended; },
    pause: (number) => nodes[number].kill('SIGSTOP'),
    resume: (number) => nodes[number].kill('SIGCONT'),
    stop: async () => {
      nodes.forEach((node) => node.kill('SIGKILL'));
      await Promise.all(nodes.map((node) => node.ended));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A proxy, and where it serves clients and operators. */
export async function proxy(flags, env = {}) {
  const child = start(binary(), ['serve', '--listen', '127.0.0.1:0', ...flags], { env: { ...process.env, ...env } });
  const found = (pattern) => pattern.exec(child.output)?.[1];
  await until('the proxy listens', () => {
    if (child.exitCode !== null) throw new Error(child.output);
    return found(/listen=(\S+)/) && found(/admin=(\S+)/);
  });
  const [api, admin] = [found(/listen=(\S+)/), found(/admin=(\S+)/)];
  return {
    api: `http://${api}`,
    admin: `http://${admin}`,
    output: () => child.output,
    stop: async () => { child.kill('SIGTERM'); await child.ended; },
  };
}

/** Posts JSON and gives the answer's. */
export async function ask(proxy, path, body) {
  const answer = await fetch(`${proxy.api}${path}`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
  });
  return { status: answer.status, ...(await answer.json()) };
}

/** Clients that compete, until they are stopped. */
export function load(proxy, keys, { clients = 6, hold = 60, pause = 120 } = {}) {
  let going = true;
  const one = async (number) => {
    for (let turn = number; going; turn += 1) {
      const lock = { key: keys[turn % keys.length](turn), uuid: `client-${number}-${turn}` };
      try {
        const got = await ask(proxy, '/lock/acquire', { ...lock, lease: 10_000, retryAttempts: 20, retryDelay: 50 });
        if (got.acquired) {
          await sleep(hold * (0.4 + Math.random()));
          await ask(proxy, '/lock/release', lock);
        }
      } catch {
        // The proxy may be gone for a while.
      }
      await sleep(pause * Math.random());
    }
  };
  const all = Promise.all(Array.from({ length: clients }, (_, number) => one(number)));
  return { stop: async () => { going = false; await all; } };
}
