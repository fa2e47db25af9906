// The pages outside of a session: a one-time link to open, a session that ended, and how to get a link.
import { html, useEffect, useState } from '../view.js';
import { callConsole } from '../api.js';
import { openSession, scopeName, session } from '../session.js';
import { Facts, Page } from '../ui/page.js';
import { Brand } from '../ui/shell.js';
import { ProblemBox, Skeleton } from '../ui/states.js';
import { At } from '../ui/time.js';

const Alone = ({ children }) => html`<main class="alone"><p><${Brand} /></p>${children}</main>`;

const HowToGetALink = () => html`
  <ul>
    <li>If somebody sent you the link, or you came from a page of theirs, go there and ask for a new one.</li>
    <li>Operators make one with <code>POST /tokens/links</code>, or on the screen “Tokens” of this console.</li>
  </ul>
  <p class="muted">A link works once and for 60 seconds.</p>`;

async function hashOf(code) {
  const bytes = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(code));
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Says for whom the link is before anything is spent. Only the button opens it. */
export function LinkPage({ code, done }) {
  const [link, setLink] = useState(null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const look = () => {
    setProblem(null);
    hashOf(code).then((hash) => callConsole('GET', `links/${hash}`)).then(setLink).catch(setProblem);
  };
  useEffect(look, []);
  const open = async () => {
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      openSession(await callConsole('POST', 'sessions', { code }));
      done();
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  if (problem?.status === 404) {
    return html`<${Alone}><${Page} title="This link does not work any more">
      <p>It was opened before, it is older than 60 seconds, or a part of it is missing.</p>
      <${HowToGetALink} />
      ${session() && html`<p class="buttons"><button type="button" class="button"
        onClick=${done}>Go on with the open session</button></p>`}
    <//><//>`;
  }
  return html`<${Alone}><${Page} title="Open the console">
    ${link
      ? html`
        <${Facts} label="What the link opens" of=${[
          ['Opens', html`<b>${scopeName(link.scope)}</b>`],
          ['Access', link.read_only ? html`<span class="badge">read only</span>` : 'read and write'],
          ['Session ends', html`<${At} at=${link.session_ends_at} />`],
          ['Link works until', html`<${At} at=${link.expires_at} only="hour" />`],
        ]} />
        <p class="buttons"><button type="button" class="button primary" aria-disabled=${busy} onClick=${open}>
          ${busy ? 'Opening …' : 'Open'}</button></p>
        <p class="muted">Opening the link uses it up.</p>`
      : !problem && html`<${Skeleton} lines=${3} />`}
    ${problem && html`<${ProblemBox} problem=${problem} retry=${link ? open : look} />`}
  <//><//>`;
}

export const EndedPage = ({ why }) =>
  why === 'signed-out'
    ? html`<${Alone}><${Page} title="You are signed out">
      <p>This tab has forgotten the session. You need a link to open the console again.</p><${HowToGetALink} /><//><//>`
    : html`<${Alone}><${Page} title="Your session has ended">
      <p>It reached its end, or somebody revoked it. Nothing that you saved is lost.
          You need a link to open the console again.</p><${HowToGetALink} /><//><//>`;

export const NoSessionPage = () => html`<${Alone}><${Page} title="You need a link to open the console">
  <p>This console has no password. A link opens it in this tab, for some hours.</p>
  <${HowToGetALink} />
<//><//>`;
