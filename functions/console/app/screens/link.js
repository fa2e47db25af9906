// The pages outside of a session: a one-time link to open, a session that ended, and how to get a link.
import { html, useEffect, useState } from '../view.js';
import { callConsole, revoke } from '../api.js';
import { openSession, scopeName, session } from '../session.js';
import { Facts, Page } from '../ui/page.js';
import { Brand } from '../ui/shell.js';
import { ProblemBox, Skeleton } from '../ui/states.js';
import { At } from '../ui/time.js';

const Alone = ({ children }) => html`<main class="alone"><p><${Brand} /></p>${children}</main>`;

/** `scope` is that of the session that was, if there was one. A tenant has nothing to do with what operators do. */
const HowToGetALink = ({ scope }) => html`
  <ul>
    <li>If somebody sent you the link, or you came from a page of theirs, go there and ask for a new one.</li>
    ${!scope?.startsWith('tenant:') && html`<li>Operators make one with <code>POST /tokens/links</code>, or on the screen “Tokens” of this console.</li>`}
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
      const replaced = session();
      openSession(await callConsole('POST', 'sessions', { code }));
      // Nobody can get at its token any more. If this fails, it ends by itself.
      if (replaced && !replaced.read_only) revoke(replaced).catch(() => {});
      done();
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  // A page around this one could make an operator press what they do not see.
  const isFramed = link?.scope === 'operator' && window.top !== window.self;
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
        ${session() && html`<p class="notice"><span>This tab shows <b>${scopeName(session().scope)}</b>. Opening the link replaces it.</span></p>`}
        ${isFramed && html`<p>Another page shows this one. The operator's console opens only in a tab of its own: <a
          href="#code=${code}" target="_blank" rel="noopener">open the link there</a>.</p>`}
        <p class="buttons">${!isFramed && html`<button type="button" class="button primary" aria-disabled=${busy} onClick=${open}>
          ${busy ? 'Opening …' : 'Open'}</button>`}
          ${session() && html`<button type="button" class="button" onClick=${done}>Keep ${scopeName(session().scope)}</button>`}</p>
        <p class="muted">Opening the link uses it up.</p>`
      : !problem && html`<${Skeleton} lines=${3} />`}
    ${problem && html`<${ProblemBox} problem=${problem} retry=${link ? open : look} />`}
  <//><//>`;
}

/** `until`: when the token of a session that was signed out ends, if it could not be revoked. */
export const EndedPage = ({ why, scope, until }) =>
  why === 'signed-out'
    ? html`<${Alone}><${Page} title="You are signed out">
      ${until
        ? html`<p class="notice warn" role="status"><span>This tab has forgotten the session, but it could not be revoked: it ends at <${At} at=${until} />.</span></p>`
        : html`<p>This tab has forgotten the session.</p>`}
      <p>You need a link to open the console again.</p><${HowToGetALink} scope=${scope} /><//><//>`
    : html`<${Alone}><${Page} title="Your session has ended">
      <p>It reached its end, or somebody revoked it. What you had saved is kept; what you were typing is not.
          You need a link to open the console again.</p><${HowToGetALink} scope=${scope} /><//><//>`;

export const NoSessionPage = () => html`<${Alone}><${Page} title="You need a link to open the console">
  <p>This console has no password. A link opens it in this tab, for some hours.</p>
  <${HowToGetALink} />
<//><//>`;
