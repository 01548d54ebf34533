// How the page asks: with the operator's token, if one is demanded, and again when it broke.
//
// The stream is read with fetch, since EventSource can't show a token. The token stays in this tab.

const KEPT = 'everlock-admin-token';
// A stream that is silent for so long is broken: snapshots come each second.
const SILENT = 10_000;
let again = 2_000;

/** The headers of every request. */
export function headers() {
  const token = sessionStorage.getItem(KEPT);
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** Keeps the token for as long as this tab is open. */
export const keepToken = (token) => sessionStorage.setItem(KEPT, token);

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

/** One event: its data, and how soon to ask again if it says so. */
function parse(block, take) {
  const data = [];
  for (const line of block.split('\n')) {
    if (line.startsWith('data:')) data.push(line.slice(5).trimStart());
    const retry = /^retry: ?(\d+)$/.exec(line);
    if (retry) again = Number(retry[1]);
  }
  if (data.length) take(JSON.parse(data.join('\n')));
}

async function read(body, take, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    rest += value;
    const blocks = rest.split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) parse(block, take);
  }
}

/**
 * Listens for as long as the page is open. `take` gets each snapshot, `broken` hears why there is
 * none; `locked` resolves once there is a token to try.
 */
export async function listen(take, broken, locked) {
  for (;;) {
    const stop = new AbortController();
    let silent;
    const alive = () => {
      clearTimeout(silent);
      silent = setTimeout(() => stop.abort(), SILENT);
    };
    try {
      alive();
      const answer = await fetch('/events', { headers: headers(), cache: 'no-store', signal: stop.signal });
      if (answer.status === 401) {
        clearTimeout(silent);
        await locked(sessionStorage.getItem(KEPT) !== null);
        continue;
      }
      if (answer.ok) {
        await read(answer.body, take, alive);
        broken('');
      } else {
        const { message } = await answer.json().catch(() => ({}));
        broken(message ?? `The proxy answers ${answer.status}.`);
      }
    } catch {
      broken('');
    }
    clearTimeout(silent);
    await pause(again);
  }
}
