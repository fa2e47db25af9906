// Calls of the API with the session's token.
import { endIfVoid, withToken } from './gate.js';
import { Problem, failure, isRefusal, parsed, send } from './http.js';
import { session } from './session.js';

/** Faults that the page itself found, in the form of the service: `{ url: 'must be …' }`. */
export function faults(found) {
  const errors = Object.entries(found).map(([name, message]) => ({ pointer: `/${name}`, message }));
  return new Problem({ status: 422, title: 'Some fields need a change', errors });
}

/** A part of a path. A dot or two would be taken for steps between folders. */
export function part(name) {
  if (name === '.' || name === '..') throw new Problem({ status: 404, title: 'There is no such thing' });
  return encodeURIComponent(name);
}

export function withQuery(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== '' && value != null);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

const REFUSED = { kind: 'refused', title: 'This is not allowed or there is no such thing' };

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
    headers: { ...headers, ...withToken(token) },
    signal,
  });
  const data = parsed(text);
  if (answer.ok || (answer.status === accept && !data?.type)) {
    return { status: answer.status, data, text, etag: answer.headers.get('etag') };
  }
  if (isRefusal(answer, data)) {
    await endIfVoid(token);
    throw new Problem({ ...REFUSED, status: answer.status });
  }
  throw failure(method, answer, data);
}

/** Calls a route of the console itself, which needs no token. */
export async function callConsole(method, path, body) {
  const { answer, text } = await send(path, { method, body: body && JSON.stringify(body) });
  const data = parsed(text);
  if (!answer.ok) throw failure(method, answer, data);
  return data;
}

const REVOKE_MS = 5_000;

/** Revokes the token of a session that this tab has forgotten. One that is refused already counts as revoked. */
export async function revoke({ id, token }) {
  const { answer, text } = await send(`../api/tokens/${part(id)}`, {
    method: 'DELETE', headers: withToken(token), keepalive: true, limit: REVOKE_MS,
  });
  if (!answer.ok && ![401, 403, 404].includes(answer.status)) throw failure('DELETE', answer, parsed(text));
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The request behind a screen as a command line. The URL and the token are the reader's own variables. */
export function asCurl(path, method = 'GET', body) {
  const lines = [`curl -sS ${method === 'GET' ? '' : `-X ${method} `}"$STEADHOOK_URL"${quoted(`/api/${path}`)}`];
  lines.push('-H "authorization: Bearer $STEADHOOK_TOKEN"');
  if (body) {
    lines.push("-H 'content-type: application/json'");
    lines.push(`-d ${quoted(body)}`);
  }
  return lines.join(' \\\n  ');
}
