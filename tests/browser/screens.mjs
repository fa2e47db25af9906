// The screens of the console: their addresses, their titles, and something that each must show of the seed.
import { button, dialog } from './browser.mjs';

const openDialog = (action, title) => async (page) => {
  await button(page, action).first().click();
  await dialog(page, title).getByRole('button').last().waitFor();
};

async function makeFaults(page) {
  await button(page, 'Create endpoint').click();
  await page.getByRole('alert').waitFor();
}

/**
 * The screens of one tenant. A variant is one more state of a screen, which a portal shows as the operator's
 * console does. `base` is what stands before them in an address: nothing in a portal.
 */
function tenantScreens({ acme, replay, retried }, base) {
  const { orders, warehouse, accounting, closed, analytics } = acme;
  return [
    { name: 'endpoints', path: `${base}/endpoints`, title: 'Endpoints', shows: ['Orders of the shop', 'Warehouse', 'Paused', 'Disabled'] },
    { name: 'endpoint', path: `${base}/endpoints/${orders.id}`, title: 'Orders of the shop', shows: [orders.url, 'x-team', 'sensitive, not shown', 'owner'] },
    { name: 'endpoint-failing', isVariant: true, path: `${base}/endpoints/${warehouse.id}`, title: 'Warehouse', shows: ['Failing, calls wait', 'Retries exhausted'] },
    { name: 'endpoint-waiting', isVariant: true, path: `${base}/endpoints/${warehouse.id}?result=waiting`, title: 'Warehouse', shows: ['order-1006'] },
    { name: 'endpoint-paused', path: `${base}/endpoints/${accounting.id}`, title: 'Accounting', shows: ['because somebody asked for it', '6 deliveries'] },
    { name: 'endpoint-disabled', isVariant: true, path: `${base}/endpoints/${closed.id}`, title: 'Closed shop', shows: ['because the receiver answered 410'] },
    { name: 'events', path: `${base}/events`, title: 'Events', shows: ['order-1001', 'invoice-1'] },
    { name: 'event', path: `${base}/events/order-1001`, title: 'order-1001', shows: ['Fanned out', '12.5', warehouse.id] },
    { name: 'delivery', isVariant: true, path: `${base}/events/order-1001/deliveries/${warehouse.id}`, title: 'Delivery', shows: ['HTTP 500', 'the database is away'] },
    { name: 'delivery-retried', path: `${base}/events/${retried}/deliveries/${analytics.id}`, title: 'Delivery', shows: ['First delivery', 'HTTP 503', 'HTTP 200'] },
    { name: 'replay', path: `${base}/endpoints/${warehouse.id}/replays/${replay}`, title: 'Replay', shows: [replay, 'Deliveries that failed'] },
  ];
}

function tenantForms({ acme }, base) {
  const { orders, warehouse } = acme;
  return [
    { name: 'endpoint-new', path: `${base}/endpoints/+new`, title: 'New endpoint', shows: ['Event types', 'order.paid'] },
    { name: 'endpoint-faults', isVariant: true, path: `${base}/endpoints/+new`, title: 'New endpoint', shows: ['is needed'], first: makeFaults },
    { name: 'endpoint-edit', path: `${base}/endpoints/${orders.id}/edit`, title: 'Edit endpoint', shows: ['Save changes'] },
    { name: 'endpoint-replay', path: `${base}/endpoints/${warehouse.id}/replay`, title: 'Replay deliveries', shows: ['Dry run'] },
    { name: 'event-send', path: `${base}/events/+send`, title: 'Send an event', shows: ['Event id (optional)'] },
    ...[
      ['dialog-test', 'Send test', 'Send a test', 'Payload (optional)'],
      ['dialog-secrets', 'Reveal secret', 'Signing secrets', 'Signs each webhook'],
      ['dialog-delete', 'Delete', 'Delete the endpoint?', 'gets no more events'],
    ].map(([name, action, title, shown]) => (
      { name, isVariant: true, path: `${base}/endpoints/${orders.id}`, title: 'Orders of the shop', shows: [shown], first: openDialog(action, title) }
    )),
  ];
}

const shared = (isOperator) => [
  { name: 'event-types', path: '/event-types', title: 'Event types', shows: ['order.paid', 'An order was paid.', 'Deprecated'] },
  { name: 'event-type', path: '/event-types/order.paid', title: 'order.paid', shows: ['An order was paid.', '"integer"'] },
  // All tests make sessions, so the list of all tokens may be too long to show one of them.
  isOperator
    ? { name: 'tokens', path: '/tokens?scope=tenant:acme', title: 'Tokens', shows: ['Shop of Acme'] }
    : { name: 'tokens', path: '/tokens', title: 'API tokens', shows: ['this session', 'Shop of Acme'] },
];
const tokenDialog = (isOperator) => (
  { name: 'dialog-token', path: '/tokens', title: isOperator ? 'Tokens' : 'API tokens', shows: ['Which program uses it.'], first: openDialog('New token', 'New token') }
);
const missing = { name: 'missing', path: '/nowhere', title: 'There is no such page', shows: ['Go to the overview'] };

/** The overview alone: the README shows it. */
export const overview = {
  name: 'overview', path: '/', title: 'Overview', shows: ['Health', 'Deliveries', 'Open circuit breakers', 'invoice-1'],
};

export const operatorScreens = (seed) => [
  overview,
  { name: 'tenants', path: '/tenants', title: 'Tenants', shows: ['acme', 'globex'] },
  { name: 'tenant', path: '/tenants/acme', title: 'acme', shows: ['Enabled', 'Owed'] },
  ...tenantScreens(seed, '/tenants/acme'),
  { name: 'dead-letters', path: '/dead-letters', title: 'Dead letters', shows: ['report-refused', 'Client error'] },
  { name: 'dead-letter', path: `/dead-letters/${seed.deadLetter}`, title: 'Dead letter', shows: [seed.deadLetter, 'the database is away', '"total"'] },
  { name: 'webhooks', path: '/webhooks', title: 'Direct webhooks', shows: ['report-1', 'Delivered'] },
  { name: 'webhook', path: '/webhooks/report-refused', title: 'Direct webhook', shows: ['report.ready', 'See its dead letter'] },
  { name: 'breakers', path: '/breakers', title: 'Circuit breakers', shows: [`endpoint:${seed.acme.warehouse.id}`] },
  ...shared(true),
];

export const operatorForms = (seed) => [
  ...tenantForms(seed, '/tenants/acme'),
  { name: 'redrive', path: '/dead-letters/+redrive', title: 'Redrive dead letters', shows: ['Dry run'] },
  { name: 'event-type-new', path: '/event-types/+new', title: 'New event type', shows: ['Save event type'] },
  { name: 'event-type-edit', path: '/event-types/order.paid/edit', title: 'Edit order.paid', shows: ['Save event type'] },
  {
    name: 'dialog-erase', path: '/tenants/acme', title: 'acme', shows: ['and cannot be undone'],
    first: openDialog('Erase tenant', 'Erase the tenant acme?'),
  },
  tokenDialog(true),
  missing,
  { name: 'unknown', path: '/tenants/acme/events/none-such', title: 'none-such', shows: ['This does not exist'] },
];

const isNoVariant = ({ isVariant }) => !isVariant;

export const portalScreens = (seed) => [
  { name: 'overview', path: '/', title: 'Overview', shows: ['Orders of the shop', 'order-1001'] },
  ...tenantScreens(seed, '').filter(isNoVariant),
  ...shared(false),
];

export const portalForms = (seed) => [...tenantForms(seed, '').filter(isNoVariant), tokenDialog(false), missing];
