// Two small graphs. Both say in words what they show, for those who don't see them.

import { h, svg, lasting } from './dom.js';

/** A line of the last values, from zero up. */
export function sparkline(values, label) {
  const most = Math.max(1, ...values);
  const last = Math.max(1, values.length - 1);
  const points = values.map((value, at) => `${((at / last) * 100).toFixed(2)},${(23 - (value / most) * 22).toFixed(2)}`);
  return svg('svg', { class: 'spark', viewBox: '0 0 100 24', preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
    svg('polyline', { points: points.join(' ') }));
}

const WIDTH = 416;
const HEIGHT = 190;
const LEFT = 40;
const RIGHT = 14;
const TOP = 20;
const BOTTOM = 34;

/** Attempts against the p99 wait; the present setting is a ring, the advised one a dot. */
export function curve(points) {
  const seen = points.filter((point) => point.p99WaitMs > 0 && point.attempts > 0);
  const here = points.find((point) => point.current);
  const there = points.find((point) => point.advised);
  if (seen.length < 2 || !here || !there) return null;
  // What is far beyond both says nothing and squeezes the rest.
  const widest = 8 * Math.max(here.p99WaitMs, there.p99WaitMs, 1);
  const highest = 4 * Math.max(here.attempts, there.attempts, 1);
  const drawn = seen.filter((point) => point.p99WaitMs <= widest && point.attempts <= highest);
  const log = (value) => Math.log(Math.max(value, 1e-9));
  const xs = drawn.map((point) => log(point.p99WaitMs));
  const [from, to] = [Math.min(...xs), Math.max(...xs)];
  const most = Math.max(...drawn.map((point) => point.attempts)) * 1.05;
  const x = (ms) => LEFT + ((log(ms) - from) / Math.max(to - from, 1e-9)) * (WIDTH - LEFT - RIGHT);
  const y = (attempts) => HEIGHT - BOTTOM - (attempts / most) * (HEIGHT - TOP - BOTTOM);
  const line = drawn.map((point) => `${x(point.p99WaitMs).toFixed(1)},${y(point.attempts).toFixed(1)}`);
  const mark = (point, kind, text, above) => {
    const [px, py] = [x(point.p99WaitMs), y(point.attempts)];
    const anchor = px > WIDTH * 0.7 ? 'end' : 'start';
    const dx = anchor === 'end' ? -9 : 9;
    return [
      svg('circle', { class: kind, cx: px, cy: py, r: 5 }),
      svg('text', { class: 'strong', x: px + dx, y: py + (above ? -8 : 15), 'text-anchor': anchor }, text),
    ];
  };
  const same = here === there;
  const marks = same
    ? mark(here, 'advised', `now and advised: ${lasting(here.delayMs)}`, true)
    : [
        ...mark(here, 'current', `now: ${lasting(here.delayMs)}`, here.attempts >= there.attempts),
        ...mark(there, 'advised', `advised: ${lasting(there.delayMs)}`, there.attempts > here.attempts),
      ];
  const tick = (ms, anchor) => svg('text', { x: x(ms), y: HEIGHT - 18, 'text-anchor': anchor }, lasting(ms));
  const label = `Replay: now ${here.attempts.toFixed(1)} attempts and a p99 wait of ${lasting(here.p99WaitMs)}; `
    + `advised ${there.attempts.toFixed(1)} attempts and ${lasting(there.p99WaitMs)}.`;
  const short = drawn[0].p99WaitMs < drawn.at(-1).p99WaitMs ? [drawn[0], drawn.at(-1)] : [drawn.at(-1), drawn[0]];
  return h('figure', {}, svg('svg', { class: 'curve', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': label },
    svg('line', { class: 'axis', x1: LEFT, y1: HEIGHT - BOTTOM, x2: WIDTH - RIGHT, y2: HEIGHT - BOTTOM }),
    svg('line', { class: 'axis', x1: LEFT, y1: TOP, x2: LEFT, y2: HEIGHT - BOTTOM }),
    svg('text', { x: 0, y: 10 }, 'attempts an acquire'),
    svg('text', { x: LEFT - 6, y: y(0), 'text-anchor': 'end' }, '0'),
    svg('text', { x: LEFT - 6, y: y(most) + 8, 'text-anchor': 'end' }, most.toFixed(most < 10 ? 1 : 0)),
    tick(short[0].p99WaitMs, 'start'), tick(short[1].p99WaitMs, 'end'),
    svg('text', { x: (LEFT + WIDTH) / 2, y: HEIGHT - 3, 'text-anchor': 'middle' }, 'p99 wait'),
    svg('polyline', { points: line.join(' ') }),
    ...drawn.filter((point) => !point.current && !point.advised)
      .map((point) => svg('circle', { class: 'dot', cx: x(point.p99WaitMs), cy: y(point.attempts), r: 2 })),
    ...marks));
}
