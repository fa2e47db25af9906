// What happens when a reader leaves a field with a click: nothing may move below the pointer before the click is done, or the
// click would miss its button.
let isDown = false;
addEventListener('pointerdown', () => (isDown = true), true);
for (const end of ['pointerup', 'pointercancel']) addEventListener(end, () => (isDown = false), true);

/** Does `work` now, or as soon as the pointer is up. The click that follows finds it done. */
export function afterPress(work) {
  if (isDown) addEventListener('pointerup', work, { once: true });
  else work();
}
