// One request over HTTP. Every failure is a `Problem` that a screen can show.
import { hear } from './clock.js';

// The gateway gives up after 30 s.
const LIMIT_MS = 35_000;

export class Problem extends Error {
  constructor({ status = 0, title, detail = '', correlation_id, errors = [], kind = 'problem', retryAfterMs = 0, ...rest }) {
    super(title);
    Object.assign(this, { status, title, detail, correlationId: correlation_id, errors, kind, retryAfterMs, rest });
  }
}

const OFFLINE = {
  kind: 'offline',
  title: 'Steadhook cannot be reached',
  detail: 'Check your connection. This page tries again by itself.',
};

/** What is said of a request that may have changed something, or not. */
const UNKNOWN = { kind: 'unknown', detail: 'It is not known whether the service did it. Look before you try again.' };

const GATEWAY = {
  413: 'The request is too large',
  429: 'There are too many requests at the moment',
};

export function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

export async function send(url, { method, body, headers = {}, signal, keepalive, limit = LIMIT_MS }) {
  if (body !== undefined) headers = { 'content-type': 'application/json', ...headers };
  const late = AbortSignal.timeout(limit);
  try {
    const answer = await fetch(url, {
      method, body, headers, keepalive, cache: 'no-store', signal: signal ? AbortSignal.any([signal, late]) : late,
    });
    hear(answer.headers.get('date'));
    return { answer, text: await answer.text() };
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(method === 'GET' ? OFFLINE : { ...OFFLINE, ...UNKNOWN });
  }
}

/** A refusal of the gate, which has a body of its own: the token is void, or the path is none that it lets through. */
export const isRefusal = (answer, data) => answer.status === 401 || (answer.status === 403 && !data?.type);

function retryAfterMs(answer) {
  const seconds = Number(answer.headers.get('retry-after'));
  return seconds > 0 ? seconds * 1000 : 0;
}

/** What an answer that is no success says. */
export function failure(method, answer, data) {
  // Whoever answers for the service after a failure of it does not know what it had done by then.
  const isUnknown = method !== 'GET' && answer.status >= 500 && !data?.type;
  return new Problem({
    title: GATEWAY[answer.status] ?? data?.message ?? `The service answered ${answer.status}`,
    detail: answer.status === 429 ? 'Wait a moment and try again.' : '',
    correlation_id: answer.headers.get('x-correlation-id') ?? undefined,
    retryAfterMs: retryAfterMs(answer),
    ...(isUnknown ? UNKNOWN : {}),
    ...(data?.type ? data : {}),
    status: answer.status,
  });
}
