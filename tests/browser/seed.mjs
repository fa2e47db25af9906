// The data that all tests look at: tenants with endpoints in every state, events, dead letters and direct webhooks.
import { until } from './check.mjs';
import { patch, post, put, read } from './stack.mjs';
import { startReceiver } from './receiver.mjs';

const MANY = 205;
const SIDE_BY_SIDE = 8;

const orderSchema = {
  type: 'object',
  required: ['order'],
  properties: { order: { type: 'integer' }, total: { type: 'number' } },
};

async function describeEventTypes() {
  await put('/event-types/order.paid', {
    description: 'An order was paid.', example: { order: 17, total: 42.5 }, schema: orderSchema,
  });
  await put('/event-types/order.shipped', { description: 'All parcels of an order left the warehouse.' });
  await put('/event-types/order.closed', { description: 'Use order.shipped.', deprecated: true });
  await put('/event-types/invoice.ready', { description: 'An invoice can be fetched.', example: { invoice: 'i_1' } });
}

export const event = (tenant, event_type, event_id, payload) =>
  post(`/tenants/${tenant}/events`, { event_type, event_id, payload });

export const endpoint = (tenant, body) => post(`/tenants/${tenant}/endpoints`, body);

/** The endpoints of one tenant, one for each thing that can happen to an endpoint. */
async function makeAcme(receiver) {
  receiver.answers('/warehouse', { status: 500, body: 'the database is away' });
  receiver.answers('/analytics', { status: 503, body: 'busy' }, { status: 200, body: 'thank you' });
  receiver.answers('/closed', { status: 410, body: 'closed for good' });
  const acme = (body) => endpoint('acme', { ...body, url: receiver.url(body.url) });
  const [orders, warehouse, analytics, accounting, closed] = await Promise.all([
    acme({
      url: '/orders', description: 'Orders of the shop', uid: 'orders', event_types: ['order.*', 'refund.*'],
      filter: { payload: { order: [{ numeric: ['>=', 1] }] } }, rate_per_s: 20, metadata: { owner: 'shop' },
      headers: { 'x-team': 'blue', authorization: { value: 'Bearer 7f3a', sensitive: true } },
    }),
    acme({ url: '/warehouse', description: 'Warehouse', event_types: ['order.paid'], retry_schedule_s: [] }),
    acme({ url: '/analytics', description: 'Analytics', event_types: ['order.paid'], retry_schedule_s: [1] }),
    acme({ url: '/accounting', description: 'Accounting', event_types: ['order.paid'] }),
    acme({ url: '/closed', description: 'Closed shop', event_types: ['invoice.ready'] }),
  ]);
  await patch(`/tenants/acme/endpoints/${accounting.id}`, { state: 'paused' });
  // The receiver of the warehouse fails, and one call after the other opens its circuit breaker.
  for (let n = 1; n <= 6; n += 1) await event('acme', 'order.paid', `order-100${n}`, { order: 1000 + n, total: n * 12.5 });
  await event('acme', 'invoice.ready', 'invoice-1', { invoice: 'i_1' });
  return { orders, warehouse, analytics, accounting, closed };
}

/** Direct webhooks: delivered, refused, and one that is tried again. Each receiver has a breaker of its own. */
async function sendDirect(receiver, refusing) {
  refusing.answers('/none', { status: 404, body: 'no such hook' });
  const direct = (reference_id, webhook_url) =>
    post('/webhooks', { reference_id, webhook_url, event_type: 'report.ready', payload: { report: reference_id } });
  await Promise.all([
    ...[1, 2, 3].map((n) => direct(`report-${n}`, receiver.url('/reports'))),
    direct('report-refused', refusing.url('/none')),
    direct('report-lost', refusing.url('/none')),
  ]);
}

/** A tenant whose list of endpoints is long. It is made while other tests run. */
async function makeMany(receiver) {
  let next = 0;
  const maker = async () => {
    while (next < MANY) {
      const n = (next += 1);
      await endpoint('megacorp', { url: receiver.url(`/shops/${n}`), description: `Shop ${n}`, event_types: ['order.*', 'refund.done'].slice(0, n % 3) });
    }
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, maker));
}

async function hasHappened(acme) {
  const at = (endpoint) => read(`/tenants/acme/endpoints/${endpoint.id}`);
  await until('the warehouse has an open breaker', async () => (await at(acme.warehouse)).health?.breaker === 'open', 30_000);
  await until('accounting is owed something', async () => (await at(acme.accounting)).owed?.deliveries > 0);
  await until('the closed shop is disabled', async () => (await at(acme.closed)).state === 'disabled');
  const { event_id: retried } = await until('analytics has one after a retry', async () =>
    (await read(`/tenants/acme/endpoints/${acme.analytics.id}/deliveries?result=delivered`)).deliveries.find((life) => life.attempt_count === 2));
  const letters = await until('dead letters', async () => {
    const { dead_letters: list } = await read('/dead-letters?limit=100');
    return list.some((letter) => letter.webhook_id === 'report-refused') && list.some((letter) => letter.webhook_id.includes(acme.warehouse.id)) && list;
  });
  return { retried, deadLetter: letters.find((letter) => letter.webhook_id.includes(acme.warehouse.id)).webhook_id };
}

/** Makes everything. `many` is a promise: only some tests need the long list. */
export async function sow() {
  const [receiver, refusing] = await Promise.all([startReceiver(), startReceiver()]);
  await describeEventTypes();
  const [acme, globex] = await Promise.all([
    makeAcme(receiver),
    endpoint('globex', { url: receiver.url('/globex'), description: 'Plans of Globex' }),
    sendDirect(receiver, refusing),
    post('/tokens', { scope: 'tenant:globex', ttl_s: 1_800, description: 'Key of Globex' }),
    post('/tokens', { scope: 'tenant:acme', ttl_s: 1_800, description: 'Shop of Acme' }),
  ]);
  await event('globex', 'order.paid', 'globex-1', { order: 1 });
  const many = makeMany(receiver);
  many.catch(() => {});
  const { deadLetter, retried } = await hasHappened(acme);
  const { replay_id: replay } = await post(`/tenants/acme/endpoints/${acme.warehouse.id}/replays`, {
    what: 'failed', since: new Date(Date.now() - 3_600_000).toISOString(), dry_run: true,
  });
  return { receiver, refusing, acme, globex, deadLetter, retried, replay, many, close: () => Promise.all([receiver.close(), refusing.close()]) };
}
