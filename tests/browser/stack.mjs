// The stack that is tested: where it is, and calls of its API with a token.
import assert from 'node:assert/strict';
import http from 'node:http';

function needed(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is missing. The suite needs the lines of stack.env and STEADHOOK_TOKEN.`);
  return value;
}

const address = new URL(needed('API_URL'));
export const operatorToken = needed('STEADHOOK_TOKEN');
export const consoleUrl = `${address.origin}/console/app`;
export const origin = address.origin;

const agent = new http.Agent({ keepAlive: true, maxSockets: 12 });

/** One request. Node does not resolve names below `localhost`, so it calls the loopback address with the name as host. */
export function request(method, path, { headers = {}, body } = {}) {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const sent = http.request(
      { host: '127.0.0.1', port: address.port, agent, method, path, headers: { host: address.host, ...headers } },
      (answer) => {
        let received = '';
        answer.setEncoding('utf8');
        answer.on('data', (part) => (received += part));
        answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, text: received, data: parsed(received) }));
      },
    );
    // A connection that was kept may have been closed meanwhile. Nothing of the request was read then.
    sent.on('error', (error) => {
      if (sent.reusedSocket && error.code === 'ECONNRESET') request(method, path, { headers, body: text }).then(resolve, reject);
      else reject(error);
    });
    sent.end(text);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** A call of the API, whatever the answer is. */
export function ask(method, path, { body, headers, token = operatorToken } = {}) {
  return request(method, `/api${path}`, {
    body,
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), authorization: `Bearer ${token}`, ...headers },
  });
}

/** A call that must succeed. Gives the data of its answer. */
async function call(method, path, body, options) {
  const answer = await ask(method, path, { body, ...options });
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${answer.text}`);
  return answer.data;
}

export const read = (path, options) => call('GET', path, undefined, options);
export const post = (path, body, options) => call('POST', path, body, options);
export const put = (path, body, options) => call('PUT', path, body, options);
export const patch = (path, body, options) => call('PATCH', path, body, options);
export const remove = (path, options) => call('DELETE', path, undefined, options);

const SESSION_S = 1_800;

/** The address of a one-time link to the console. */
export async function makeLink({ scope = 'operator', readOnly = false } = {}) {
  const { code } = await post('/tokens/links', { scope, ttl_s: SESSION_S, read_only: readOnly });
  return `${consoleUrl}#code=${code}`;
}

/** Closes the connections that are kept for further calls. */
export const hangUp = () => agent.destroy();
