// Buttons that copy: an id, a secret, or the request behind a screen.
import { asCurl } from '../api.js';
import { html, useEffect, useState } from '../view.js';
import { Icon } from './icons.js';
import { toast } from './toast.js';

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A frame may have no permission for the clipboard. The older way works after a click.
    const area = document.createElement('textarea');
    area.value = text;
    const host = document.activeElement?.closest('dialog') ?? document.body;
    host.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
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
    await copyText(text);
    setCopied(true);
    toast(`Copied ${what}`);
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
