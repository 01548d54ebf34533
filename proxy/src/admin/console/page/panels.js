// The panels that are fed by the live stream. Each draws what it is given and keeps nothing.

import { byId, count, duration, h, lasting, percent, quotient, rows, show, state } from './dom.js';
import { sparkline } from './charts.js';

const KINDS = { up: 'good', guarded: 'warn', down: 'bad' };

/** The one sentence that an operator came for. */
export function verdict(quorum, instance) {
  const voting = quorum.nodes.filter((node) => node.state === 'up').length;
  const all = quorum.nodes.length;
  const votes = `${voting} of ${all} nodes vote`;
  if (instance.draining) return ['warn', `Draining. ${votes}.`];
  if (quorum.clocksAstray) return ['bad', 'The nodes’ clocks jumped apart: no votes count'];
  if (voting < quorum.needed) return ['bad', `No quorum: ${votes}, ${quorum.needed} are needed`];
  if (voting < all) return ['warn', `Quorum, but only ${votes}`];
  return ['good', `Quorum: ${votes}`];
}

function pair(name, value) {
  return [h('dt', {}, name), h('dd', {}, value)];
}

function offset(micros) {
  if (micros === null || micros === undefined) return '–';
  const ms = micros / 1000;
  const text = Math.abs(ms) >= 1000 ? lasting(Math.abs(ms)) : `${Math.abs(ms).toFixed(Math.abs(ms) < 10 ? 1 : 0)}\u00a0ms`;
  return `${ms < 0 ? '−' : '+'}${text}`;
}

function node(row, old) {
  const kind = row.warnings.length && row.state === 'up' ? 'good' : KINDS[row.state] ?? 'wait';
  const words = { up: 'votes', down: 'down' }[row.state]
    ?? (row.votesInMs ? `guarded, votes in ${lasting(row.votesInMs)}` : 'guarded');
  const open = old?.querySelector('details')?.open ?? false;
  return h('li', { class: kind, 'data-node': row.node, 'data-state': row.state },
    h('p', { class: 'name mono' }, row.node),
    state(kind, words),
    row.why ? h('p', { class: 'why' }, row.why) : null,
    h('dl', { class: 'pairs' },
      ...pair('latency', row.latencyMicros === null ? '–' : lasting(row.latencyMicros / 1000)),
      ...pair('version', row.version ?? '–'),
      ...pair('clock', offset(row.clockOffsetMicros))),
    row.warnings.length
      ? h('details', { class: 'warnings', open }, h('summary', {}, `▲ ${row.warnings.length} ${row.warnings.length === 1 ? 'warning' : 'warnings'}`),
          h('ul', {}, ...row.warnings.map((warning) => h('li', {}, warning))))
      : null);
}

/** Each node with its state. */
export function quorum(data) {
  byId('quorum-note').textContent = `${data.needed} of ${data.nodes.length} must vote`;
  const list = byId('nodes');
  list.querySelector('.empty')?.remove();
  rows(list, data.nodes, (row) => row.node, node);
}

function figure(id, name, [value, unit], more, extra) {
  return h('div', { id }, h('dt', {}, name),
    h('dd', { class: 'value' }, value, unit ? h('span', { class: 'unit' }, unit) : null),
    more ? h('dd', { class: 'more' }, more) : null,
    extra ? h('dd', {}, extra) : null);
}

/** What acquires cost now. */
export function now(seen) {
  const { counts, acquires, p50Micros, p99Micros } = seen.minute;
  const all = acquires.reduce((sum, one) => sum + one, 0);
  const span = 10;
  const rate = acquires.slice(-span).reduce((sum, one) => sum + one, 0) / span;
  const ended = counts.acquired + counts.contended + counts.unavailable;
  const bad = counts.unavailable ? state('bad', `${count(counts.unavailable)} without a quorum`) : `${count(counts.contended)} gave up`;
  byId('now-empty').hidden = all > 0 || seen.waiters > 0;
  byId('figures').replaceChildren(
    figure('now-rate', 'Acquires', [rate < 10 ? rate.toFixed(1) : count(Math.round(rate)), '/ s'], null,
      sparkline(acquires, `Acquires in each of the last 60 seconds; ${count(all)} altogether`)),
    figure('now-attempts', 'Attempts an acquire', [quotient(counts.attempts, all), ''], `${count(counts.attempts)} attempts`),
    figure('now-success', 'Success', [ended ? percent(counts.acquired / ended).replace('\u00a0%', '') : '–', ended ? '%' : ''], ended ? bad : null),
    figure('now-p99', 'p99 to acquire', duration(p99Micros === null ? null : p99Micros / 1000), p50Micros === null ? null : `half within ${lasting(p50Micros / 1000)}`),
    figure('now-waiters', 'Waiting', [count(seen.waiters), ''], 'acquires under way'),
    figure('now-oldest', 'Oldest waiter', duration(seen.oldestWaiterMs), seen.waiters ? 'since it asked' : 'nobody waits'));
}

/** The keys that are asked for most. `inspect` is called with an identity and a key. */
export function hotKeys(seen, inspect) {
  byId('hot-empty').hidden = seen.hotKeys.length > 0;
  byId('hot-note').textContent = seen.keysReplaced > 0
    ? 'the busiest of more keys than are kept' : 'since they became busy';
  rows(byId('hot-rows'), seen.hotKeys, (row) => `${row.identity}:${row.key}`, (row, old) => {
    const all = row.acquired + row.contended + row.unavailable + row.cancelled;
    const ended = row.acquired + row.contended;
    const cells = [count(all), row.waiting ? count(row.waiting) : '–', quotient(row.attempts, all), ended ? percent(row.contended / ended) : '–'];
    if (old) {
      // The button keeps the focus.
      [...old.querySelectorAll('td.n')].forEach((cell, at) => { cell.textContent = cells[at]; });
      return old;
    }
    const button = h('button', { type: 'button', 'aria-label': `Inspect ${row.key}` }, 'Inspect');
    button.addEventListener('click', () => inspect(row.identity, row.key));
    return h('tr', {}, h('td', { class: 'key' }, row.key), h('td', { class: 'who' }, row.identity),
      ...cells.map((text) => h('td', { class: 'n' }, text)), h('td', {}, button));
  });
}

const TROUBLES = {
  nodeUp: ['good', 'node back'], nodeDown: ['bad', 'node down'], nodeGuarded: ['warn', 'node guarded'],
  unavailable: ['bad', 'no quorum'], lapsed: ['warn', 'lock lapsed'], forced: ['warn', 'forced'],
};

/** What went wrong of late. */
export function trouble(seen) {
  byId('events-empty').hidden = seen.troubles.length > 0;
  rows(byId('events'), seen.troubles, (row) => `${row.kind} ${row.about} ${row.at - (row.at % 1000)} ${row.what}`, (row) => {
    const [kind, word] = TROUBLES[row.kind] ?? ['warn', row.kind];
    const at = new Date(row.at);
    return h('li', {},
      h('time', { datetime: at.toISOString(), title: at.toLocaleString() }, at.toLocaleTimeString([], { hour12: false })),
      state(kind, word),
      h('span', { class: 'what' }, h('span', { class: 'mono' }, row.about), ` ${row.what}`,
        row.times > 1 ? h('span', { class: 'times' }, ` ×\u00a0${count(row.times)}`) : null));
  });
}

/** Who asks how much. */
export function usage(seen) {
  byId('usage-empty').hidden = seen.usage.length > 0;
  rows(byId('usage-rows'), seen.usage, (row) => row.identity, (row) => {
    const all = row.acquired + row.contended + row.unavailable + row.cancelled;
    return h('tr', {}, h('td', { class: 'who' }, row.identity),
      ...[all, row.acquired, row.attempts].map((number) => h('td', { class: 'n' }, count(number))));
  });
}

/** What this process is. */
export function instance(data) {
  const facts = [['Version', data.version], ['Up for', lasting(data.uptimeMs)], ...data.facts];
  show(byId('facts'), JSON.stringify(facts), facts.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
}
