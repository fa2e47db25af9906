// Calls of the API with the session's token. Every failure is a `Problem` that a screen can show.
import { endSession, session } from './session.js';

export class Problem extends Error {
  constructor({ status = 0, title, detail = '', correlation_id, errors = [], kind = 'problem', ...rest }) {
    super(title);
    Object.assign(this, { status, title, detail, correlationId: correlation_id, errors, kind, rest });
  }
}

const OFFLINE = {
  kind: 'offline',
  title: 'Steadhook cannot be reached',
  detail: 'Check your connection. This page tries again by itself.',
};

/** Faults that the page itself found, in the form of the service: `{ url: 'must be …' }`. */
export function faults(found) {
  const errors = Object.entries(found).map(([name, message]) => ({ pointer: `/${name}`, message }));
  return new Problem({ status: 422, title: 'Some fields need a change', errors });
}

/** A part of a path. */
export const part = encodeURIComponent;

export function withQuery(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== '' && value != null);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

const GATEWAY = {
  413: 'The request is too large',
  429: 'There are too many requests at the moment',
};

async function send(url, { method, body, headers = {}, signal }) {
  if (body !== undefined) headers = { 'content-type': 'application/json', ...headers };
  try {
    const answer = await fetch(url, { method, body, headers, signal, cache: 'no-store' });
    return { answer, text: await answer.text() };
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem(OFFLINE);
  }
}

function failure(answer, data) {
  return new Problem({
    title: GATEWAY[answer.status] ?? data?.message ?? `The service answered ${answer.status}`,
    detail: answer.status === 429 ? 'Wait a moment and try again.' : '',
    correlation_id: answer.headers.get('x-correlation-id') ?? undefined,
    ...(data?.type ? data : {}),
    status: answer.status,
  });
}

/**
 * Calls `path` of the API. Returns the parsed answer, and its text, in which numbers are as they were sent.
 * `accept` names a status beside 2xx whose answer is data.
 */
export async function call(method, path, { body, headers, signal, accept } = {}) {
  const token = session()?.token;
  if (!token) throw new Problem({ status: 401, title: 'There is no session' });
  const { answer, text } = await send(`../api/${path}`, {
    method,
    body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body),
    headers: { ...headers, authorization: `Bearer ${token}` },
    signal,
  });
  const data = parsed(text);
  if (answer.ok || (answer.status === accept && !data?.type)) {
    return { status: answer.status, data, text, etag: answer.headers.get('etag') };
  }
  // The gateway refuses with a body of its own. No screen asks for what its scope may not do, so the token is void.
  if (answer.status === 401 || (answer.status === 403 && !data?.type)) endSession('ended');
  throw failure(answer, data);
}

/** Calls a route of the console itself, which needs no token. */
export async function callConsole(method, path, body) {
  const { answer, text } = await send(path, { method, body: body && JSON.stringify(body) });
  const data = parsed(text);
  if (!answer.ok) throw failure(answer, data);
  return data;
}

/** The request behind a screen as a command line. The URL and the token are the reader's own variables. */
export function asCurl(path, method = 'GET', body) {
  const lines = [`curl -sS ${method === 'GET' ? '' : `-X ${method} `}"$STEADHOOK_URL/api/${path}"`];
  lines.push('-H "authorization: Bearer $STEADHOOK_TOKEN"');
  if (body) {
    lines.push("-H 'content-type: application/json'");
    lines.push(`-d '${body.replaceAll("'", "'\\''")}'`);
  }
  return lines.join(' \\\n  ');
}
