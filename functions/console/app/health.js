// The health of many endpoints. A list does not tell it, so each is asked for when its row comes into view, at most
// four at a time, and again while it stays in view.
import { call, part } from './api.js';
import { waitAfter } from './poll.js';
import { whenSessionChanges } from './session.js';
import { html, useEffect, useRef, useState } from './view.js';
import { State } from './ui/icons.js';
import { Ago } from './ui/time.js';
import { count, number } from './ui/words.js';

const AT_A_TIME = 4;
const FRESH_MS = 20_000;
const known = new Map();
const waiting = [];
let running = 0;

// What one session may see is nothing for the next one.
let asker = {};
whenSessionChanges(() => {
  asker = {};
  known.clear();
  waiting.length = 0;
});

function next() {
  while (running < AT_A_TIME && waiting.length > 0) {
    const { path, tell } = waiting.shift();
    const mine = asker;
    running += 1;
    call('GET', path)
      .then(({ data }) => {
        if (asker === mine) known.set(path, { data, at: Date.now() });
        tell(data);
      }, (error) => tell(null, error))
      .finally(() => {
        running -= 1;
        next();
      });
  }
}

const seen = new WeakMap();
const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) seen.get(target)?.(isIntersecting);
});

function useSeenEndpoint(tenant, endpoint, version) {
  const path = `tenants/${part(tenant)}/endpoints/${part(endpoint)}`;
  const box = useRef(null);
  const [state, setState] = useState(() => known.get(path)?.data);
  useEffect(() => {
    let timer;
    let failures = 0;
    let inView = false;
    const again = (error) => {
      clearTimeout(timer);
      if (inView) timer = setTimeout(ask, waitAfter(FRESH_MS, failures, error));
    };
    // After a failure, what was known stays. It is asked for later each time.
    const tell = (data, error) => {
      failures = error ? failures + 1 : 0;
      setState((was) => data ?? was ?? null);
      again(error);
    };
    const ask = () => {
      if (document.hidden) return again();
      const recent = known.get(path);
      if (recent?.data.version === version && Date.now() - recent.at < FRESH_MS / 2) return tell(recent.data);
      if (!waiting.some((other) => other.tell === tell)) waiting.push({ path, tell });
      return next();
    };
    const cell = box.current;
    seen.set(cell, (isSeen) => {
      inView = isSeen;
      clearTimeout(timer);
      if (isSeen) ask();
    });
    observer.observe(cell);
    return () => {
      inView = false;
      clearTimeout(timer);
      observer.unobserve(cell);
      const at = waiting.findIndex((other) => other.tell === tell);
      if (at >= 0) waiting.splice(at, 1);
    };
  }, [path, version]);
  return [state, box];
}

/** In a word, how deliveries to an endpoint go. */
export function HealthWord({ of }) {
  const { health } = of;
  if (!health) return html`<${State} of="unknown" />`;
  if (health.breaker === 'open' || health.host_breaker === 'open') return html`<${State} of="failing"
    word="Failing, calls wait" />`;
  if (health.failing_since) return html`<${State} of="failing" />`;
  if (!health.last_success_at) return html`<span class="muted">No delivery yet</span>`;
  return html`<${State} of="healthy" />`;
}

export function HealthCell({ endpoint }) {
  const [of, box] = useSeenEndpoint(endpoint.tenant, endpoint.id, endpoint.version);
  const { health, owed } = of ?? {};
  return html`<span class="health" ref=${box}>
    ${of ? html`<${HealthWord} of=${of} />` : html`<span class="muted">${of === null ? 'cannot be read' : '…'}</span>`}
    ${health?.failing_since && html`<span class="muted small">since <${Ago} at=${health.failing_since} /></span>`}
    ${health?.waiting > 0 && html`<span class="muted small">${number(health.waiting)} waiting</span>`}
    ${owed?.deliveries > 0 && html`<span class="muted small">
      ${count(owed.deliveries, 'delivery', 'deliveries', owed.is_more)} owed</span>`}
  </span>`;
}
