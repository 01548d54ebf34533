// Building blocks. Whatever comes from outside becomes text nodes and nothing else: there is no
// markup made of strings on this page.

/** The element of this id. */
export const byId = (id) => document.getElementById(id);

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) {
      element.setAttribute(name, value === true ? '' : String(value));
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An element with attributes and children; texts become text nodes. */
export const h = (name, attributes = {}, ...children) =>
  fill(document.createElement(name), attributes, children);

/** The same for SVG. */
export const svg = (name, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

/** A state: a shape, a colour and a word. */
export const state = (kind, text) =>
  h('span', { class: `state ${kind}` }, h('span', { class: 'cue', 'aria-hidden': 'true' }), h('span', {}, text));

/** Replaces an element's children, unless they would be the same as last time. */
export function show(element, key, children) {
  if (element.dataset.key === key) return false;
  element.dataset.key = key;
  element.replaceChildren(...children);
  return true;
}

/**
 * Keeps one child for each row, by its key, in order. Rows that stay keep their elements, and with
 * them the focus and what is open.
 */
export function rows(parent, all, keyOf, make) {
  const old = new Map([...parent.children].map((child) => [child.rowKey, child]));
  let at = parent.firstChild;
  for (const row of all) {
    const key = keyOf(row);
    const sign = JSON.stringify(row);
    let child = old.get(key);
    old.delete(key);
    if (!child || child.rowSign !== sign) {
      const fresh = make(row, child);
      if (child && child !== fresh) {
        if (at === child) at = fresh;
        child.replaceWith(fresh);
      }
      child = fresh;
      child.rowKey = key;
      child.rowSign = sign;
    }
    if (child === at) at = at.nextSibling;
    else parent.insertBefore(child, at);
  }
  for (const gone of old.values()) gone.remove();
}

const UNITS = [['ms', 1], ['s', 1000], ['min', 60_000], ['h', 3_600_000], ['d', 86_400_000]];

/** A duration as a number and its unit; of milliseconds. */
export function duration(ms) {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return ['–', ''];
  const limits = [1000, 120_000, 7_200_000, 172_800_000, Infinity];
  const [unit, size] = UNITS[limits.findIndex((limit) => Math.abs(ms) < limit)];
  const value = ms / size;
  const digits = Math.abs(value) < 10 && !Number.isInteger(value) ? 1 : 0;
  return [value.toFixed(unit === 'ms' && Math.abs(value) < 1 && value !== 0 ? 2 : digits), unit];
}

/** The same as one text. */
export const lasting = (ms) => duration(ms).join('\u00a0').trim();

const SHORT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const LONG = new Intl.NumberFormat('en');

/** A count; large ones shortened. */
export const count = (number) => (number < 100_000 ? LONG.format(number) : SHORT.format(number));

/** A share as a percentage. */
export function percent(share) {
  if (!Number.isFinite(share)) return '–';
  const hundred = share * 100;
  if (hundred > 0 && hundred < 0.05) return '<\u00a00.1\u00a0%';
  return `${hundred > 0 && hundred < 10 ? hundred.toFixed(1) : hundred.toFixed(0)}\u00a0%`;
}

/** A quotient with one digit, or a dash. */
export const quotient = (of, by) => (by > 0 ? (of / by).toFixed(1) : '–');
