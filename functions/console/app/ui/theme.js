// Light or dark: as the system says, until the reader chooses. The choice stays in localStorage.
import { html, useState } from '../view.js';
import { Icon } from './icons.js';

const KEY = 'steadhook.theme';

function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function apply(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

apply(chosen());

export function ThemeButton() {
  const [theme, setTheme] = useState(chosen() ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'));
  const other = theme === 'dark' ? 'light' : 'dark';
  const change = () => {
    apply(other);
    setTheme(other);
    try {
      localStorage.setItem(KEY, other);
    } catch {}
  };
  return html`<button type="button" class="button quiet" aria-label=${`Use the ${other} theme`}
    title=${`Use the ${other} theme`} onClick=${change}><${Icon} shape="sun" /></button>`;
}
