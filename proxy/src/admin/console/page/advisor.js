// The advisor: what the locks of each group look like, and what would serve them better.

import { byId, count, h, lasting, percent, rows, state } from './dom.js';
import { curve } from './charts.js';

const WEIGHTS = { warning: ['warn', '▲'], advice: ['good', '→'], note: ['wait', '·'] };

/** A finding; its weight has a shape, and a word for those who don't see it. */
function finding({ weight, text }) {
  const [kind, shape] = WEIGHTS[weight] ?? WEIGHTS.note;
  return h('li', {}, h('span', { class: `cue state ${kind === 'warn' ? 'warn' : 'wait'}`, 'aria-hidden': 'true' }, shape),
    h('span', {}, h('span', { class: 'hidden' }, `${weight}: `), text));
}

function settings({ current, lease, polling }) {
  if (!current) return null;
  const row = (name, cells) => h('tr', {}, h('th', { scope: 'row' }, name), ...cells.map((cell) => h('td', { class: 'n' }, cell)));
  const advised = polling?.advised;
  const none = '–';
  return h('table', {},
    h('thead', {}, h('tr', {}, h('td', {}), ...['Lease', 'Delay', 'Jitter', 'Retries'].map((name) => h('th', { scope: 'col', class: 'n' }, name)))),
    h('tbody', {},
      row('Now', [lasting(current.leaseMs), lasting(current.delayMs), lasting(current.jitterMs), count(current.retries)]),
      row('Advised', [lease ? lasting(lease.advisedMs) : none, advised ? lasting(advised.delayMs) : none,
        advised ? lasting(advised.jitterMs) : none, advised ? count(advised.retries) : none])));
}

function body({ advice }) {
  const busiest = advice.utilisation ? percent(advice.utilisation.busiest) : 'not known';
  const { cost } = advice;
  const chart = advice.polling ? curve(advice.polling.curve) : null;
  return h('div', { class: 'advice' },
    h('div', {},
      settings(advice),
      h('ul', { class: 'findings' }, ...advice.findings.map(finding))),
    h('div', {},
      h('dl', { class: 'pairs' },
        h('dt', {}, 'busiest lock held'), h('dd', {}, busiest),
        h('dt', {}, 'attempts an acquire'), h('dd', {}, cost.attemptsPerAcquire.toFixed(1)),
        h('dt', {}, 'attempts wasted'), h('dd', {}, `${count(cost.wastedAttempts)} (${percent(cost.wastedShare)})`),
        h('dt', {}, 'gave up'), h('dd', {}, percent(cost.failureShare)),
        h('dt', {}, 'p99 wait'), h('dd', {}, lasting(cost.p99WaitMs))),
      chart));
}

function group(row, old) {
  const { advice } = row;
  const first = advice.findings[0];
  const [kind] = first ? WEIGHTS[first.weight] ?? WEIGHTS.note : WEIGHTS.note;
  const seen = `${count(advice.acquires)} acquires, ${count(advice.holds)} holds in ${lasting(advice.windowMs)}`;
  const summary = h('summary', {},
    h('span', { class: 'key' }, row.group, h('span', { class: 'aside' }, ` ${row.identity}`)),
    h('span', { class: 'headline' }, first && kind === 'warn' ? state('warn', first.text) : first?.text ?? ''),
    h('span', { class: 'count' }, seen));
  if (old) {
    // What is open stays open, and keeps the focus.
    const kept = old.querySelector('summary');
    kept.replaceChildren(...summary.childNodes);
    old.querySelector('.advice').replaceWith(body(row));
    return old;
  }
  return h('details', { class: 'group', 'data-group': row.group }, summary, body(row));
}

/** All groups that are known, the busiest first. */
export function advisor(report) {
  byId('groups-empty').hidden = report.groups.length > 0;
  if (report.groupsForgotten > 0) {
    byId('advisor-note').textContent = 'the busiest groups of more than are kept';
  }
  rows(byId('groups'), report.groups, (row) => `${row.identity}:${row.group}`, group);
}
