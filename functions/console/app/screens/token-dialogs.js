// The dialogs of tokens: make one, make a link to the console, end all of a scope. A token is shown once.
import { html, useEffect, useRef, useState } from '../view.js';
import { call, withQuery } from '../api.js';
import { now } from '../clock.js';
import { isOperator, scopeName, session } from '../session.js';
import { Copy } from '../ui/copy.js';
import { confirm, openDialog } from '../ui/dialog.js';
import { CheckField, Form, SelectField, TextField, useForm } from '../ui/form.js';
import { useMounted } from '../ui/mounted.js';
import { At, duration } from '../ui/time.js';
import { toast } from '../ui/toast.js';
import { count } from '../ui/words.js';

const HOUR_S = 3_600;
const DAY_S = 86_400;
const TOKEN_TTLS = [
  [HOUR_S, '1 hour'], [8 * HOUR_S, '8 hours'], [DAY_S, '1 day'], [30 * DAY_S, '30 days'], [90 * DAY_S, '90 days'],
  [365 * DAY_S, '1 year'],
];
const SESSION_TTLS = [[HOUR_S, '1 hour'], [4 * HOUR_S, '4 hours'], [12 * HOUR_S, '12 hours']];

const AS_SESSION = 'session';
// The call takes a while, and clocks differ a little.
const SHORTER_S = 30;

const secondsLeft = () => Math.max(Math.floor((Date.parse(session().expires_at) - now()) / 1000) - SHORTER_S, 1);

/** How long something made in this session may last: no longer than the session itself. */
function lifetimes(choices) {
  const left = secondsLeft();
  const fitting = choices.filter(([s]) => s <= left).map(([s, words]) => [String(s), words]);
  return fitting.length === choices.length ? fitting : [...fitting, [AS_SESSION, `as long as this session, ${duration(left * 1000)}`]];
}

const grantOf = ({ scope, ttl_s, read_only }) => (
  { scope: scope.trim(), ttl_s: ttl_s === AS_SESSION ? secondsLeft() : Math.min(Number(ttl_s), secondsLeft()), read_only }
);

/** What was made, with the focus on it: the form that had the focus is gone. */
function Made({ children }) {
  const box = useRef(null);
  useEffect(() => box.current.focus(), []);
  return html`<div class="made" tabindex="-1" ref=${box}>${children}</div>`;
}

const ScopeField = ({ form }) =>
  isOperator()
    ? html`<${TextField} ...${form.bind('scope')} label="Scope" autocomplete="off"
      hint="operator, or tenant: and a name, as tenant:acme." />`
    : html`<p>For ${scopeName(form.values.scope)}.</p>`;

export const makeToken = (scope, made) => openDialog('New token', (close) => html`<${TokenForm} scope=${scope} made=${made}
  close=${close} />`);

function TokenForm({ scope, made, close }) {
  const [token, setToken] = useState(null);
  const [ttls] = useState(() => lifetimes(TOKEN_TTLS));
  const isThere = useMounted();
  const form = useForm({ scope, description: '', ttl_s: ttls.at(-1)[0], read_only: false });
  const make = async (values) => {
    const { data } = await call('POST', 'tokens', {
      body: { ...grantOf(values), description: values.description.trim() || undefined },
    });
    made();
    if (isThere()) setToken(data);
    else toast('The token was made, but not shown. Revoke it and make another one.');
  };
  if (token) {
    return html`
      <${Made}>
        <p>Copy it now: <b>it is shown only this once.</b> It works until <${At} at=${token.expires_at} />.</p>
        <p class="id"><code>${token.token}</code><${Copy} text=${token.token} what="token" /></p>
      <//>
      <p class="buttons"><button type="button" class="button primary" onClick=${close}>Done</button></p>`;
  }
  return html`<${Form} form=${form} work=${make} label="New token" action="Make token" cancel=${close}
    look=${html`<a href="#/tokens" onClick=${() => { close(); made(); }}>See the tokens</a>: one that was made is among them. Revoke it.`}>
    <${ScopeField} form=${form} />
    <${TextField} ...${form.bind('description')} label="Description" autocomplete="off" hint="Which program uses it." />
    <${SelectField} ...${form.bind('ttl_s')} label="Lifetime" options=${ttls}
      hint="A token made here ends no later than your session." />
    <${CheckField} ...${form.bind('read_only')} label="Read only"
      hint="It can see everything but secrets, and change nothing." />
  <//>`;
}

export const makeLink = (scope) => openDialog('Link to the console', (close) => html`<${LinkForm} scope=${scope}
  close=${close} />`);

function LinkForm({ scope, close }) {
  const [link, setLink] = useState(null);
  const [ttls] = useState(() => lifetimes(SESSION_TTLS));
  const form = useForm({ scope, ttl_s: ttls[0][0], read_only: false });
  const make = async (values) => {
    const { data } = await call('POST', 'tokens/links', { body: grantOf(values) });
    setLink(data);
  };
  if (link) return html`<${MadeLink} link=${link} again=${() => setLink(null)} close=${close} />`;
  return html`<${Form} form=${form} work=${make} label="Link to the console" action="Make link" cancel=${close}
    look="Make another link: one that nobody has seen cannot be opened.">
    <p>Whoever opens the link first gets a session. For a tenant, that is its portal.</p>
    <${ScopeField} form=${form} />
    <${SelectField} ...${form.bind('ttl_s')} label="Session lasts" options=${ttls} />
    <${CheckField} ...${form.bind('read_only')} label="Read only" />
  <//>`;
}

function MadeLink({ link, again, close }) {
  const works = () => Math.max(Math.ceil((Date.parse(link.expires_at) - now()) / 1000), 0);
  const [left, setLeft] = useState(works);
  useEffect(() => {
    const timer = setInterval(() => setLeft(works()), 1000);
    return () => clearInterval(timer);
  }, []);
  // Any console of this stack opens it, so also this document.
  const url = new URL(`#code=${link.code}`, location.href).href;
  return html`
    <${Made}>${left > 0
      ? html`<p>The link works once, for another <b>${left} s</b>. The session lasts until <${At}
        at=${link.session_ends_at} />.</p>
        <p class="id"><code>${url}</code><${Copy} text=${url} what="link" /></p>`
      : html`<p role="status">The link has expired. Make another one.</p>`}<//>
    <p class="buttons">
      <button type="button" class="button" onClick=${again}>Make another</button>
      <button type="button" class="button primary" onClick=${close}>Done</button>
    </p>`;
}

export function endScope(scope, ended) {
  confirm({
    title: 'End all tokens?',
    action: 'End all tokens',
    typed: scope,
    facts: async () => {
      const { data } = await call('GET', withQuery('tokens', { scope, limit: 200 }));
      const sessions = data.tokens.filter(({ kind }) => kind === 'session').length;
      const isMore = Boolean(data.next_cursor);
      return html`<p>Of the scope <code>${scope}</code>, <b>
        ${count(data.tokens.length - sessions, 'token', 'tokens', isMore)}</b> and <b>
        ${count(sessions, 'session', 'sessions', isMore)}</b> end within 30 seconds. Programs that use them are refused.
        ${scope === session().scope && html` <b>Your own session ends too.</b>`}</p>`;
    },
    run: async () => {
      await call('POST', 'tokens/epochs', { body: { scope } });
      toast('All tokens of the scope end');
      ended();
    },
  });
}
