// The lock inspector, and the end of a lock by hand.

import { byId, h, lasting, state } from './dom.js';
import { headers } from './live.js';

// A page of another origin can't send this without being asked first, and is refused then.
const HEADERS = { 'content-type': 'application/json', 'x-everlock-console': '1' };
let allowed = false;
let asked = 0;

async function post(path, body) {
  const answer = await fetch(path, {
    method: 'POST', headers: { ...headers(), ...HEADERS }, body: JSON.stringify(body), cache: 'no-store', credentials: 'same-origin',
  });
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(json.message ?? `the proxy answers ${answer.status}`);
  return json;
}

const VERDICTS = { free: 'good', held: 'wait', split: 'warn', unknown: 'bad' };

function table({ nodes, holder, token }) {
  // What all agree on stands above; a token that is another one is the news.
  const says = (node) => (holder && node.says === `held by ${holder}` ? 'held' : node.says)
    + (node.token !== undefined && node.token !== token ? `, token ${node.token}` : '');
  const row = (node) => h('tr', {}, h('td', { class: 'key' }, node.node), h('td', { class: 'says' }, says(node)),
    h('td', { class: 'n' }, node.remainingMs === undefined ? '–' : lasting(node.remainingMs)));
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'What each node says' }, h('table', {},
    h('thead', {}, h('tr', {}, ...['Node', 'Says'].map((name) => h('th', { scope: 'col' }, name)),
      h('th', { scope: 'col', class: 'n' }, 'Time left'))),
    h('tbody', {}, ...nodes.map(row))));
}

function forceForm(subject, seen) {
  const confirm = h('input', { id: 'force-confirm', spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off', 'aria-describedby': 'force-what' });
  const button = h('button', { type: 'submit', class: 'danger', disabled: true }, 'End this lock');
  const outcome = h('p', { role: 'status', id: 'force-outcome' });
  confirm.addEventListener('input', () => { button.disabled = confirm.value !== subject.key; });
  const form = h('form', { id: 'force-form', autocomplete: 'off' },
    h('label', { for: 'force-confirm' }, 'Type the key to confirm'), confirm, button, outcome);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (confirm.value !== subject.key) return;
    button.disabled = true;
    try {
      const done = await post('/console/force-release', { ...subject, confirm: confirm.value, token: seen.token, holder: seen.holder });
      await inspect(subject, done.message);
    } catch (error) {
      outcome.replaceChildren(state('bad', error.message));
      button.disabled = confirm.value !== subject.key;
    }
  });
  return h('details', { id: 'force-details' }, h('summary', {}, 'End this lock by force…'),
    h('ul', { id: 'force-what' },
      h('li', {}, 'The holder is not asked and not told. It goes on until its next extension is refused or its lease ends, ',
        h('strong', {}, 'so two may work at once'), '.'),
      h('li', {}, `Whoever acquires next has a fencing token above ${seen.token ?? 'this one'}. Storage that refuses lower tokens stays safe from the old holder; storage that does not check tokens does not.`),
      h('li', {}, 'Only this grant is ended: if the lock has changed hands meanwhile, nothing is done.'),
      h('li', {}, 'It is written to the log and to the trouble feed.')),
    form);
}

/** Asks every node who holds the lock, and shows it. */
async function inspect(subject, note) {
  const mine = ++asked;
  const panel = byId('inspected');
  byId('force').replaceChildren();
  panel.replaceChildren(h('p', { class: 'empty' }, 'Asking the nodes…'));
  try {
    const seen = await post('/console/inspect', subject);
    if (mine !== asked) return;
    const parts = [h('p', {}, state(VERDICTS[seen.verdict] ?? 'wait', seen.text))];
    if (note) parts.unshift(h('p', { id: 'inspect-note' }, state('good', note)));
    if (seen.holder) {
      parts.push(h('dl', { class: 'pairs' }, h('dt', {}, 'holder'), h('dd', { class: 'mono' }, seen.holder),
        h('dt', {}, 'fencing token'), h('dd', { class: 'mono' }, seen.token === undefined ? 'none' : String(seen.token))));
    }
    panel.replaceChildren(...parts, table(seen));
    if (allowed && seen.verdict === 'held') byId('force').replaceChildren(forceForm(subject, seen));
  } catch (error) {
    if (mine === asked) panel.replaceChildren(h('p', {}, state('bad', error.message)));
  }
}

/** Fills the form and asks. */
export function inspectKey(identity, key) {
  byId('inspect-key').value = key;
  byId('inspect-identity').value = identity;
  byId('inspector').scrollIntoView({ block: 'nearest' });
  byId('inspect-key').focus();
  inspect({ identity, key });
}

/** Whether locks may be ended by hand here. */
export function allowForce(may) {
  allowed = may;
}

byId('inspect').addEventListener('submit', (event) => {
  event.preventDefault();
  inspect({ identity: byId('inspect-identity').value, key: byId('inspect-key').value });
});
