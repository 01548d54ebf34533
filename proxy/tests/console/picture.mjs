// Takes docs/console.png: the console over real nodes, after two minutes of real load, in which a
// node was away for a while. `npm run picture`, and look at it before it is committed.
//
//   node picture.mjs [FOLDER]     also leaves pictures of the whole page, and of a phone, there

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

import { ask, cluster, load, proxy } from './servers.mjs';

const TARGET = fileURLToPath(new URL('../../../docs/console.png', import.meta.url));
const KEYS = [
  () => 'nightly-report', (turn) => `order:${1000 + (turn % 40)}:pay`, (turn) => `user:${turn % 25}:cart`,
  (turn) => `invoice/${turn % 9}/send`, () => 'search-index', (turn) => `order:${1000 + (turn % 7)}:pay`,
];

const nodes = await cluster(5, { durable: true });
const served = await proxy([...nodes.flags, '--admin-listen', '127.0.0.1:0']);
const clients = load(served, KEYS, { clients: 8, hold: 90, pause: 200 });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--disable-background-networking'],
});

async function shot(path, { fullPage, ...context }) {
  const opened = await browser.newContext({ colorScheme: 'dark', ...context });
  const page = await opened.newPage();
  await page.goto(served.admin);
  await page.waitForSelector('[data-group="nightly-report"]');
  await page.fill('#inspect-key', 'nightly-report');
  await page.press('#inspect-key', 'Enter');
  await page.waitForSelector('#inspected table');
  await page.evaluate(() => document.activeElement.blur());
  await page.screenshot({ path, fullPage });
  await opened.close();
}

try {
  await sleep(60_000);
  await nodes.pause(3);
  await sleep(10_000);
  await nodes.resume(3);
  await sleep(50_000);
  await ask(served, '/lock/acquire', { key: 'nightly-report', uuid: 'a', lease: 10_000, retryAttempts: 50, retryDelay: 20 });
  await shot(TARGET, { viewport: { width: 1280, height: 1010 } });
  const folder = process.argv[2];
  if (folder) {
    await shot(join(folder, 'console-whole.png'), { viewport: { width: 1280, height: 900 }, fullPage: true });
    await shot(join(folder, 'console-phone.png'), { viewport: { width: 360, height: 740 }, fullPage: true });
  }
} finally {
  await clients.stop();
  await browser.close();
  await served.stop();
  await nodes.stop();
}
