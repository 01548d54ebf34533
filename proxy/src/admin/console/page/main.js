// What comes in, and which panels it feeds. Nothing here holds state that a reload would miss.

import { byId } from './dom.js';
import { headers, keepToken, listen } from './live.js';
import { hotKeys, instance, now, quorum, trouble, usage, verdict } from './panels.js';
import { advisor } from './advisor.js';
import { allowForce, inspectKey } from './inspector.js';

// Snapshots come each second: after this long without one, what is shown is old.
const STALE_AFTER = 5_000;
// Advice changes slowly, and is computed for whoever asks.
const ADVICE_EVERY = 10_000;

let last = 0;
let reason = '';

/** Sets a state once; screen readers hear of changes only. */
function tell(id, kind, text) {
  const element = byId(id);
  const words = byId(`${id}-text`);
  if (words.textContent === text && element.classList.contains(kind)) return;
  element.className = `state ${kind}`;
  words.textContent = text;
}

function draw(data) {
  if (!last) setTimeout(advise);
  last = Date.now();
  reason = '';
  document.body.classList.remove('stale');
  byId('stale').hidden = true;
  tell('link', 'good', 'live');
  const [kind, words] = verdict(data.quorum, data.instance);
  tell('verdict', kind, words);
  document.title = `${{ good: '✓', warn: '▲', bad: '✕' }[kind]} everlock console`;
  allowForce(data.forceRelease);
  quorum(data.quorum);
  instance(data.instance);
  if (data.seen) {
    now(data.seen);
    hotKeys(data.seen, inspectKey);
    trouble(data.seen);
    usage(data.seen);
  }
}

/** The stream broke; what is shown is told to be old only when it is. */
function broken(why) {
  reason = why;
  tell('link', 'warn', 'reconnecting');
  stale();
}

function stale() {
  if (!byId('locked').hidden || (last && Date.now() - last < STALE_AFTER)) return;
  if (!last && !reason) return;
  tell('link', 'warn', 'reconnecting');
  tell('verdict', 'wait', 'Not known: no news from the proxy');
  document.title = '○ everlock console';
  const note = byId('stale');
  const why = reason || 'The proxy does not answer.';
  const since = last ? ` What is shown is from ${new Date(last).toLocaleTimeString([], { hour12: false })}.` : '';
  const text = `${why}${since} It is asked again every few seconds.`;
  if (note.textContent !== text || note.hidden) {
    note.textContent = text;
    note.hidden = false;
  }
  document.body.classList.toggle('stale', last > 0);
}

/** Asks the operator for the token. */
function locked(wrong) {
  const form = byId('locked');
  form.hidden = false;
  byId('locked-note').textContent = wrong ? 'That is not the token.' : '';
  tell('verdict', 'wait', 'The admin token is needed');
  tell('link', 'wait', 'locked');
  byId('token').focus();
  return new Promise((unlocked) => {
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      keepToken(byId('token').value.trim());
      byId('token').value = '';
      form.hidden = true;
      tell('verdict', 'wait', 'Connecting…');
      unlocked();
    }, { once: true });
  });
}

async function advise() {
  if (document.hidden || !last) return;
  try {
    const answer = await fetch('/insights', { headers: headers(), cache: 'no-store' });
    if (answer.ok) advisor(await answer.json());
  } catch {
    // The stream tells that nobody answers.
  }
}

listen(draw, broken, locked);
setInterval(stale, 1_000);
setInterval(advise, ADVICE_EVERY);
document.addEventListener('visibilitychange', advise);
