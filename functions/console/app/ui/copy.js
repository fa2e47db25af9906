// Buttons that copy: an id, a secret, or the request behind a screen.
import { asCurl } from '../api.js';
import { html, useEffect, useState } from '../view.js';
import { Icon } from './icons.js';
import { toast } from './toast.js';

/** Says whether it was copied. If not, the text stands selected in a field until the reader leaves that. */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // A frame may have no permission for the clipboard. The older way works after a click, where it is allowed.
    const back = document.activeElement;
    const area = document.createElement('textarea');
    area.className = 'by-hand';
    area.readOnly = true;
    area.setAttribute('aria-label', 'Text to copy');
    area.value = text;
    (back?.closest('dialog') ?? document.querySelector('main')).append(area);
    area.select();
    const isCopied = document.execCommand('copy');
    const away = () => {
      area.remove();
      back?.focus();
    };
    if (isCopied) away();
    else area.addEventListener('blur', away, { once: true });
    return isCopied;
  }
}

function useCopied() {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(setCopied, 1500, false);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async (text, what) => {
    const isCopied = await copyText(text);
    setCopied(isCopied);
    toast(isCopied ? `Copied ${what}` : `Press Ctrl+C to copy ${what}`);
  };
  return [copied, copy];
}

export function Copy({ text, what }) {
  const [copied, copy] = useCopied();
  const label = `${copied ? 'Copied' : 'Copy'} ${what}`;
  return html`<button type="button" class="copy" aria-label=${label} title=${label} onClick=${() => copy(text, what)}>
    <${Icon} shape=${copied ? 'check' : 'copy'} />
  </button>`;
}

/** An id in full, which wraps where it must, with its copy button. */
export const Id = ({ value, what = 'id' }) =>
  html`<span class="id"><code>${value}</code><${Copy} text=${value} what=${what} /></span>`;

export function CopyCurl({ path, method, body }) {
  const [copied, copy] = useCopied();
  return html`<button type="button" class="button quiet"
    title="Copies the request behind this screen, with $STEADHOOK_URL and $STEADHOOK_TOKEN"
    onClick=${() => copy(asCurl(path, method, body), 'as curl')}>
    <${Icon} shape=${copied ? 'check' : 'copy'} />Copy as curl
  </button>`;
}
