// Two comforts, without which the page is complete: the examples name the address that the page
// came from, and can be copied.
'use strict';
for (const base of document.querySelectorAll('.base')) base.textContent = location.origin;

const said = document.getElementById('said');

/** Copies a text; on plain HTTP there is no clipboard but by way of the selection. */
async function copy(element) {
  if (navigator.clipboard) return navigator.clipboard.writeText(element.textContent);
  const range = document.createRange();
  range.selectNodeContents(element);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  if (!document.execCommand('copy')) throw new Error('not allowed');
}

for (const button of document.querySelectorAll('button[data-copies]')) {
  const text = button.textContent;
  button.hidden = false;
  button.addEventListener('click', async () => {
    let outcome = 'Copied';
    try {
      await copy(document.getElementById(button.dataset.copies));
    } catch {
      outcome = 'Not copied';
    }
    button.textContent = outcome;
    said.textContent = outcome;
    setTimeout(() => { button.textContent = text; said.textContent = ''; }, 2000);
  });
}
