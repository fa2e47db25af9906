// A receiver of webhooks: a server that answers as it is told to and remembers its calls.
import http from 'node:http';
import { until } from './check.mjs';

const OK = { status: 200, body: '{"received":true}' };

export async function startReceiver() {
  const plans = new Map();
  const calls = [];
  const server = http.createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (part) => (body += part));
    request.on('end', () => {
      const path = request.url;
      calls.push({ path, body, headers: request.headers });
      const plan = plans.get(path) ?? [OK];
      const { status, body: answer = '', type = 'text/plain' } = plan.length > 1 ? plan.shift() : plan[0];
      response.writeHead(status, { 'content-type': type });
      response.end(answer);
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${server.address().port}`;
  const callsOf = (path) => calls.filter((call) => call.path === path);
  return {
    origin,
    url: (path) => `${origin}${path}`,
    /** The answers to the next calls of a path. The last one is given again and again. */
    answers: (path, ...answers) => plans.set(path, answers),
    callsOf,
    called: (path, times = 1, ms) => until(`${times} calls of ${path}`, () => callsOf(path).length >= times && callsOf(path), ms),
    close: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections?.();
    }),
  };
}
