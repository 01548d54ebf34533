// Hazard: a console that shows what is not so, obeys what it shows, or can't be used by everybody.
//
// A real browser looks at the real proxy over real nodes under load. With CONSOLE_SHOTS=FOLDER it
// leaves pictures there.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

import { SOON, ask, cluster, freePort, load, proxy, until } from './servers.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>';
const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 360, height: 740 };
const TOKEN = 'a-token-for-operators-0123456789abcdef';
const KEYS = [
  () => 'nightly-report', (turn) => `order:${1000 + (turn % 40)}:pay`, () => 'nightly-report',
  (turn) => `invoice/${turn % 9}/send`, () => 'leader', (turn) => `user:${turn % 25}:cart`,
];

let nodes, served, browser, clients, adminPort;

before(async () => {
  nodes = await cluster(5);
  adminPort = await freePort();
  served = await serve();
  clients = load(served, KEYS, { clients: 10 });
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--disable-background-networking'],
  });
}, { timeout: 4 * SOON });

after(async () => {
  await browser?.close();
  await clients?.stop();
  await served?.stop();
  await nodes?.stop();
}, { timeout: 4 * SOON });

const serve = () => proxy([...nodes.flags, '--admin-listen', `127.0.0.1:${adminPort}`, '--allow-force-release']);

/** An open console, and what it did wrong. */
async function open({ url = served.admin, path = '/', scheme = 'dark', viewport = DESKTOP } = {}) {
  const context = await browser.newContext({ colorScheme: scheme, viewport, serviceWorkers: 'block' });
  const page = await context.newPage();
  page.setDefaultTimeout(SOON);
  const wrong = [];
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) wrong.push(message.text()); });
  page.on('pageerror', (error) => wrong.push(String(error)));
  page.on('request', (request) => { if (!request.url().startsWith(`${url}/`)) wrong.push(`asked ${request.url()}`); });
  await page.goto(`${url}${path}`);
  return { page, wrong, close: () => context.close() };
}

const text = (page, selector) => page.locator(selector).innerText();
// The browser's own waiting is code made of texts, which the page's policy forbids.
const seen = (page, what, condition, argument) => until(what, () => page.evaluate(condition, argument));
const live = (page) => seen(page, 'live', () => document.querySelector('#link-text').textContent === 'live');

async function shoot(page, name) {
  const folder = process.env.CONSOLE_SHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}

async function violations(page) {
  // Through the debugger, since the page's policy takes no script of others.
  await page.evaluate(AXE);
  const { violations: found } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return found.map(({ id, nodes: where }) => `${id}: ${where.map((node) => node.html).join(' | ')}`);
}

async function inspect(page, key) {
  await page.fill('#inspect-key', key);
  await page.press('#inspect-key', 'Enter');
  await page.waitForSelector('#inspected table');
}

test('it shows the nodes, the load and what is advised, without an error and without another host', { timeout: 3 * SOON }, async () => {
  const { page, wrong, close } = await open();
  await live(page);
  assert.equal(await text(page, '#verdict-text'), 'Quorum: 5 of 5 nodes vote');
  assert.equal(await page.locator('#nodes li[data-state=up]').count(), 5);
  assert.match(await text(page, '#nodes > li:first-child'), /redis \d+\.\d+/);
  await seen(page, 'load', () => Number.parseFloat(document.querySelector('#now-rate .value')?.textContent) > 1);
  await page.waitForSelector('#hot-rows tr >> text=nightly-report');
  await page.waitForSelector('[data-group="order:#:pay"]');
  assert.match(await text(page, '[data-group="order:#:pay"] .count'), /acquires, .* holds in/);
  await page.click('[data-group="nightly-report"] summary');
  await page.waitForSelector('[data-group="nightly-report"] .findings li');
  assert.match(await text(page, '.scope'), /this replica only/);
  assert.match(await text(page, '#facts'), /Ending locks by force\s*allowed/);
  assert.deepEqual(wrong, []);
  await close();
});

test('names that are markup are shown as text', { timeout: 3 * SOON }, async () => {
  for (let turn = 0; turn < 40; turn += 1) await ask(served, '/lock/acquire', { key: HOSTILE, uuid: 'x', retryAttempts: 0 });
  const { page, wrong, close } = await open();
  await seen(page, 'the key', (key) => [...document.querySelectorAll('#hot-rows td.key')].some((cell) => cell.textContent === key), HOSTILE);
  await page.locator('#hot-rows tr', { hasText: 'onerror' }).getByRole('button').click();
  await page.waitForSelector('#inspected table');
  assert.equal(await page.inputValue('#inspect-key'), HOSTILE);
  assert.match(await text(page, '#inspected'), /Held on 5 of 5 nodes/);
  assert.equal(await page.evaluate(() => globalThis.pwned), undefined);
  assert.equal(await page.locator('main img').count(), 0);
  assert.deepEqual(wrong, []);
  await close();
});

test('a lock is ended by force only after its key was typed, and its next holder has a higher token', { timeout: 3 * SOON }, async () => {
  const key = 'stuck:42';
  const held = await ask(served, '/lock/acquire', { key, uuid: 'a-holder-that-hangs', lease: 240_000, retryAttempts: 0 });
  const { page, wrong, close } = await open();
  await live(page);
  // By keyboard alone: from the field to the button and into the folded part.
  await page.focus('#inspect-key');
  await page.keyboard.type(key);
  await page.keyboard.press('Enter');
  await page.waitForSelector('#force-details summary');
  assert.doesNotMatch(await text(page, '#inspected'), /a-holder-that-hangs/);
  assert.match(await text(page, '#inspected'), new RegExp(String(held.fencingToken)));
  await page.focus('#force-details summary');
  await page.keyboard.press('Enter');
  await page.focus('#force-confirm');
  await page.keyboard.type('stuck:4');
  assert.equal(await page.isDisabled('#force-form button'), true);
  await page.keyboard.press('Enter');
  assert.equal((await ask(served, '/lock/acquire', { key, uuid: 'other', retryAttempts: 0 })).status, 409);
  await page.keyboard.type('2');
  assert.equal(await page.isDisabled('#force-form button'), false);
  await page.keyboard.press('Enter');
  await page.waitForSelector('#inspect-note');
  assert.match(await text(page, '#inspected'), /Free: 5 of 5 nodes hold nothing/);
  const next = await ask(served, '/lock/acquire', { key, uuid: 'other', retryAttempts: 0 });
  assert.ok(next.acquired && next.fencingToken > held.fencingToken);
  const late = await ask(served, '/lock/extend', { key, uuid: 'a-holder-that-hangs', extendBy: 1000 });
  assert.equal(late.status, 409);
  await page.waitForSelector('#events >> text=was ended by force');
  const line = await until('it is in the log', () => served.output().split('\n').find((one) => one.includes('ended by force')));
  assert.match(line, /identity="?anonymous.*key_sha256=.*token=/);
  assert.doesNotMatch(line, /stuck|a-holder-that-hangs/);
  assert.deepEqual(wrong, []);
  await close();
});

for (const [scheme, viewport, name] of [
  ['dark', DESKTOP, 'desktop-dark'], ['light', DESKTOP, 'desktop-light'], ['light', PHONE, 'phone'],
]) {
  test(`everybody can use it: ${name}`, { timeout: 3 * SOON }, async () => {
    const { page, wrong, close } = await open({ scheme, viewport });
    await page.waitForSelector('[data-group="nightly-report"]');
    await page.click('[data-group="nightly-report"] summary');
    await inspect(page, 'nightly-report');
    assert.deepEqual(await violations(page), []);
    const [wide, shown] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= shown, `${wide} px of page on ${shown} px of screen`);
    await shoot(page, name);
    // Whatever can be clicked can be reached with the tabulator.
    await page.evaluate(() => document.activeElement.blur());
    const reached = new Set();
    for (let step = 0; step < 60; step += 1) {
      await page.keyboard.press('Tab');
      reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.tagName));
    }
    for (const id of ['inspect-key', 'inspect-identity', 'SUMMARY', 'BUTTON']) assert.ok(reached.has(id), `${id} of ${[...reached]}`);
    assert.deepEqual(wrong, []);
    await close();
  });
}

for (const [scheme, viewport, name] of [
  ['dark', DESKTOP, 'docs-dark'], ['light', DESKTOP, 'docs-light'], ['light', PHONE, 'docs-phone'],
]) {
  test(`the page about the API can be used by everybody, and asks nobody: ${name}`, { timeout: 3 * SOON }, async () => {
    const { page, wrong, close } = await open({ url: served.api, path: '/docs', scheme, viewport });
    assert.match(await text(page, '#acquire h2'), /POST\s*\/lock\/acquire/);
    // The example names this proxy, and is copied by keyboard.
    assert.match(await text(page, '#acquire-curl'), new RegExp(`^curl ${served.api}/lock/acquire`));
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.focus('[data-copies=acquire-curl]');
    await page.keyboard.press('Enter');
    await seen(page, 'it is copied', () => document.querySelector('#said').textContent === 'Copied');
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.equal(copied, await text(page, '#acquire-curl'));
    assert.deepEqual(await violations(page), []);
    const [wide, shown] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= shown, `${wide} px of page on ${shown} px of screen`);
    await shoot(page, name);
    // From the top, the first step leads past the list of operations.
    await page.goto(`${served.api}/docs`);
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
    await page.keyboard.press('Enter');
    await seen(page, 'the content has the focus', () => document.activeElement.id === 'main');
    assert.deepEqual(wrong, []);
    await close();
  });
}

test('with a token, the page asks for it and opens with the right one only', { timeout: 3 * SOON }, async () => {
  const guarded = await proxy(['--dev', '--admin-listen', '127.0.0.1:0'], { EVERLOCK_ADMIN_TOKEN: TOKEN });
  const { page, close } = await open({ url: guarded.admin });
  await page.waitForSelector('#token:visible');
  await page.fill('#token', 'a-wrong-one-0123456789abcdef0123456789');
  await page.press('#token', 'Enter');
  await page.waitForSelector('text=That is not the token');
  assert.deepEqual(await violations(page), []);
  await page.fill('#token', TOKEN);
  await page.press('#token', 'Enter');
  await live(page);
  await page.waitForSelector('#nodes li[data-state=up]');
  await page.waitForSelector('text=No lock was asked for yet.');
  assert.match(await text(page, '#now'), /No acquire in the last minute/);
  await shoot(page, 'empty');
  await close();
  await guarded.stop();
});

test('a node that dies is red within seconds, and without a quorum the page says so', { timeout: 4 * SOON }, async () => {
  const { page, close } = await open();
  await live(page);
  await nodes.kill(0);
  await page.waitForSelector(`#nodes li.bad[data-node="${nodes.names[0]}"]`, { timeout: 10_000 });
  assert.equal(await text(page, '#verdict-text'), 'Quorum, but only 4 of 5 nodes vote');
  await page.waitForSelector('#events >> text=node down');
  assert.deepEqual(await violations(page), []);
  await shoot(page, 'node-down');
  await nodes.kill(1);
  await nodes.kill(2);
  await page.waitForSelector('#verdict.bad', { timeout: 10_000 });
  assert.match(await text(page, '#verdict-text'), /No quorum: 2 of 5 nodes vote, 3 are needed/);
  await page.waitForSelector('#events >> text=no quorum');
  await shoot(page, 'no-quorum');
  await close();
});

test('a proxy that is gone is told, and found again', { timeout: 4 * SOON }, async () => {
  const { page, close } = await open();
  await live(page);
  await clients.stop();
  await served.stop();
  await page.waitForSelector('#stale:visible');
  assert.match(await text(page, '#stale'), /does not answer.*What is shown is from/s);
  assert.match(await text(page, '#verdict-text'), /Not known/);
  await shoot(page, 'gone');
  served = await serve();
  await live(page);
  assert.equal(await page.isVisible('#stale'), false);
  await close();
});
