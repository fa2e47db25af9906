// Which screen an address opens. A portal names no tenant: its `/endpoints` is `/tenants/:tenant/endpoints` of the operator.
import { isName } from './names.js';
import { match } from './router.js';
import Overview from './screens/overview.js';
import Portal from './screens/portal.js';

const WRITES = true;

// The first screens come with the page. Each other one is loaded when it is first opened. Words with a `+` cannot be ids,
// so they stand before the ids' patterns.
const tenantScreens = [
  ['/endpoints', () => import('./screens/endpoints.js')],
  ['/endpoints/+new', () => import('./screens/endpoint-new.js'), WRITES],
  ['/endpoints/:endpoint', () => import('./screens/endpoint.js')],
  ['/endpoints/:endpoint/edit', () => import('./screens/endpoint-edit.js'), WRITES],
  ['/endpoints/:endpoint/replay', () => import('./screens/replay-new.js'), WRITES],
  ['/endpoints/:endpoint/replays/:replay', () => import('./screens/replay.js')],
  ['/events', () => import('./screens/events.js')],
  ['/events/+send', () => import('./screens/event-send.js'), WRITES],
  ['/events/:event', () => import('./screens/event.js')],
  ['/events/:event/deliveries/:endpoint', () => import('./screens/delivery.js')],
];

const sharedScreens = [
  ['/event-types', () => import('./screens/event-types.js')],
  ['/event-types/:name', () => import('./screens/event-type.js')],
  ['/tokens', () => import('./screens/tokens.js')],
];

const operatorScreens = [
  ['/', async () => ({ default: Overview })],
  ['/tenants', () => import('./screens/tenants.js')],
  ['/tenants/:tenant', () => import('./screens/tenant.js')],
  ...tenantScreens.map(([pattern, ...rest]) => [`/tenants/:tenant${pattern}`, ...rest]),
  ['/dead-letters', () => import('./screens/dead-letters.js')],
  ['/dead-letters/+redrive', () => import('./screens/redrive.js'), WRITES],
  ['/dead-letters/:id', () => import('./screens/dead-letter.js')],
  ['/event-types/+new', () => import('./screens/event-type-edit.js'), WRITES],
  ['/event-types/:name/edit', () => import('./screens/event-type-edit.js'), WRITES],
  ['/webhooks', () => import('./screens/webhooks.js')],
  ['/webhooks/:id', () => import('./screens/webhook.js')],
  ['/breakers', () => import('./screens/breakers.js')],
  ...sharedScreens,
];

const portalScreens = [['/', async () => ({ default: Portal })], ...tenantScreens, ...sharedScreens];

/**
 * Returns `{ load, params, writes }` for a path, or null. `tenant` is a portal's own, null for the operator. A screen that
 * `writes` is of no use to a read-only session.
 */
export function screenAt(path, tenant) {
  const own = tenant && `/tenants/${tenant}`;
  const inside = own && (path === own || path.startsWith(`${own}/`)) ? path.slice(own.length) || '/' : path;
  for (const [pattern, load, writes] of tenant ? portalScreens : operatorScreens) {
    const params = match(pattern, inside);
    if (params && Object.entries(params).every(([kind, value]) => isName(kind, value))) {
      return { load, writes, params: tenant ? { ...params, tenant } : params };
    }
  }
  return null;
}
