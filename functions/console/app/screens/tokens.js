// Tokens: those of programs and sessions of a scope, new ones, links to the console, and the end of them.
import { html } from '../view.js';
import { call, part } from '../api.js';
import { usePages } from '../pages.js';
import { isOperator, mayWrite, ownTenant, scopeName, session } from '../session.js';
import { CopyCurl } from '../ui/copy.js';
import { confirm } from '../ui/dialog.js';
import { Filters, TextFilter } from '../ui/filters.js';
import { Page } from '../ui/page.js';
import { Empty } from '../ui/states.js';
import { List } from '../ui/table.js';
import { Ago } from '../ui/time.js';
import { toast } from '../ui/toast.js';
import { endScope, makeLink, makeToken } from './token-dialogs.js';

const keyOf = (row) => row.id;
const kindOf = (row) => (row.kind === 'session' ? 'Session' : 'Token');

function revoke(token, source) {
  const own = token.id === session()?.id;
  confirm({
    title: 'Revoke the token?',
    action: 'Revoke token',
    facts: async () => html`<p><b>1 ${token.kind === 'session' ? 'session' : 'token'}</b>, <code>${token.id}</code>
      ${token.description && ` (${token.description})`}, is refused from now on, within 30 seconds.
      ${own && html` <b>It is your own session: you will be signed out.</b>`}</p>`,
    run: async () => {
      await call('DELETE', `tokens/${part(token.id)}`);
      toast('The token is revoked');
      source.drop(token.id);
      source.reload();
    },
  });
}

const columns = (source) => [
  { label: 'Token', kind: 'main', cell: (row) => html`<span>
    <bdi>${row.description || kindOf(row)}</bdi> ${row.id === session()?.id && html`<span
    class="badge">this session</span>`}</span><code class="muted small">${row.id}</code>
    ${row.made_by && html`<span class="muted small">made by <code>${row.made_by}</code></span>`}` },
  { label: 'Kind', cell: (row) => kindOf(row) },
  ...(isOperator() ? [{ label: 'Scope', cell: (row) => scopeName(row.scope) }] : []),
  { label: 'Access', cell: (row) => (row.read_only ? html`<span class="badge">read only</span>` : 'read and write') },
  { label: 'Created', kind: 'num', cell: (row) => html`<${Ago} at=${row.created_at} />` },
  { label: 'Ends', kind: 'num', cell: (row) => html`<${Ago} at=${row.expires_at} />` },
  ...(mayWrite() ? [{ label: 'Action', kind: 'num', cell: (row) => html`<button type="button" class="button"
    aria-label="Revoke ${row.description || row.id}" onClick=${() => revoke(row, source)}>Revoke</button>` }] : []),
];

export default function Tokens({ query }) {
  const own = ownTenant();
  const { scope = '' } = query;
  const source = usePages('tokens', { query: own ? {} : { scope }, pick: 'tokens', keyOf });
  const defaultScope = own ? `tenant:${own}` : scope || 'operator';
  return html`<${Page} title=${own ? 'API tokens' : 'Tokens'} actions=${html`<${CopyCurl} path=${source.address} />
      ${mayWrite() && html`
        <button type="button" class="button danger-quiet"
          onClick=${() => endScope(defaultScope, source.reload)}>End all of ${defaultScope}</button>
        <button type="button" class="button" onClick=${() => makeLink(defaultScope)}>Make a link</button>
        <button type="button" class="button primary"
          onClick=${() => makeToken(defaultScope, source.reload)}>New token</button>`}`}>
    <p class="lead">Whoever has a token may call the API with it until it ends or is revoked.</p>
    ${!own && html`<${Filters}><${TextFilter} name="scope" label="Scope" placeholder="operator or tenant:acme"
      query=${query} /><//>`}
    <${List} source=${source} label="Tokens" columns=${columns(source)} keyOf=${keyOf}
      empty=${html`<${Empty} title="There is no such token">
      ${mayWrite() ? 'Make one for a program that calls the API.' : 'Tokens show here once somebody makes one.'}<//>`} />
  <//>`;
}
