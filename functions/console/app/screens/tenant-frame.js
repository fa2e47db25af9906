// What the screens of a tenant share: the way up, and the tabs between them. A portal has both in its navigation.
import { html } from '../view.js';
import { ownTenant, tenantHref } from '../session.js';

export function tenantCrumbs(tenant, ...further) {
  const above = ownTenant() ? [] : [{ href: '#/tenants', text: 'Tenants' }, { href: tenantHref(tenant), text: tenant }];
  return [...above, ...further.map(([path, text]) => ({ href: tenantHref(tenant, path), text }))];
}

const TABS = [['', 'Tenant'], ['/endpoints', 'Endpoints'], ['/events', 'Events']];

export const TenantTabs = ({ tenant, here }) =>
  !ownTenant() &&
  html`<nav class="tabs" aria-label="Tenant ${tenant}">
    ${TABS.map(([path, word]) => html`<a key=${path} href=${tenantHref(tenant, path)}
      aria-current=${here === path ? 'page' : undefined}>${word}</a>`)}
  </nav>`;
