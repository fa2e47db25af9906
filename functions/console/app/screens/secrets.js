// The dialogs around an endpoint's signing secrets: show them, and replace the newest.
import { html } from '../view.js';
import { call } from '../api.js';
import { now } from '../clock.js';
import { staying } from '../router.js';
import { Copy } from '../ui/copy.js';
import { openDialog } from '../ui/dialog.js';
import { Form, SelectField, useForm } from '../ui/form.js';
import { useMounted } from '../ui/mounted.js';
import { At, duration } from '../ui/time.js';
import { toast } from '../ui/toast.js';

const OVERLAPS_S = [1_200, 3_600, 86_400, 259_200, 604_800];
const SHORT_S = 3_600;

const Secret = ({ secret, first }) => html`<div class="secret">
  <p class="muted small">${first ? 'Signs each webhook' : 'Older'}${secret.expires_at && html`, signs until <${At}
    at=${secret.expires_at} />`}</p>
  <p class="id"><code>${secret.secret}</code><${Copy} text=${secret.secret} what="secret" /></p>
  ${secret.public_key && html`<p class="id"><span class="muted small">Public key</span> <code>${secret.public_key}</code>
    <${Copy} text=${secret.public_key} what="public key" /></p>`}
</div>`;

export const showSecrets = (title, secrets) =>
  openDialog(title, (close) => html`
    <p>Receivers check the signature of a webhook with this secret. Keep it as you keep a password.</p>
    ${secrets.map((secret, n) => html`<${Secret} key=${secret.secret} secret=${secret} first=${n === 0} />`)}
    <p class="buttons"><button type="button" class="button primary" autofocus onClick=${close}>Done</button></p>`);

export async function revealSecrets(path) {
  const isHere = staying();
  const { data } = await call('GET', `${path}/secret`);
  if (isHere()) showSecrets('Signing secrets', data.secrets);
}

export const rotateSecret = (path, rotated) =>
  openDialog('Rotate the signing secret', (close) => html`<${Rotation} path=${path} rotated=${rotated} close=${close} />`);

function Rotation({ path, rotated, close }) {
  const form = useForm({ overlap_s: '86400' });
  const overlap = Number(form.values.overlap_s);
  const isThere = useMounted();
  const rotate = async () => {
    const { data } = await call('POST', `${path}/rotate-secret`, { body: { overlap_s: overlap } });
    toast('There is a new secret');
    if (!isThere()) return;
    rotated();
    showSecrets('The new signing secret', data.secrets);
  };
  return html`<${Form} form=${form} work=${rotate} label="Rotate the signing secret" action="Rotate secret" cancel=${close}
    look="“Reveal secret” shows whether there is a new one.">
    <p>A new secret is made. Until the overlap ends, each webhook is signed with the new and the old one, so that the receiver can change over.</p>
    <${SelectField} ...${form.bind('overlap_s')} label="Overlap"
      options=${OVERLAPS_S.map((s) => [String(s), duration(s * 1000)])} />
    <p>The old secret keeps signing until <b><${At} at=${new Date(now() + overlap * 1000).toISOString()} /></b>.</p>
    ${overlap <= SHORT_S && html`<p class="notice warn"
      role="status">That is short: a receiver that does not know the new secret within ${duration(overlap * 1000)} refuses
          every webhook after that.</p>`}
  <//>`;
}
