// What states and reasons of the service are called on screen, and which kind each of them is.

const WORDS = {
  healthy: ['good', 'Healthy'], degraded: ['warn', 'Degraded'], unhealthy: ['bad', 'Unhealthy'],
  up: ['good', 'Up'], down: ['bad', 'Down'],
  enabled: ['good', 'Enabled'], paused: ['pause', 'Paused'], disabled: ['off', 'Disabled'],
  delivered: ['good', 'Delivered'], failed: ['bad', 'Failed'], retrying: ['wait', 'Retrying'], pending: ['wait', 'Pending'],
  waiting: ['wait', 'Waiting'], in_flight: ['run', 'In flight'],
  accepted: ['wait', 'Accepted'], fanning_out: ['run', 'Fanning out'], fanned_out: ['good', 'Fanned out'],
  closed: ['good', 'Closed'], open: ['bad', 'Open'], half_open: ['warn', 'Half open'],
  running: ['run', 'Running'], done: ['good', 'Done'], stopped: ['off', 'Stopped'],
  failing: ['bad', 'Failing'], unknown: ['off', 'Unknown'],
  owed: ['pause', 'Owed'], erased: ['off', 'Erased'], deprecated: ['warn', 'Deprecated'],
  retries_exhausted: ['bad', 'Retries exhausted'], client_error: ['bad', 'Client error'], gone: ['bad', 'Gone (410)'],
  expired: ['bad', 'Expired'], validation: ['bad', 'Not valid'], malformed: ['bad', 'Malformed'],
  crashed: ['warn', 'Outcome unknown'], endpoint_gone: ['off', 'Endpoint deleted'],
  catch_up_refused: ['off', 'Catch-up refused'],
  throttled: ['warn', 'Throttled'], server_error: ['bad', 'Server error'], network: ['bad', 'Network error'],
  timeout: ['bad', 'Time-out'], unexpected: ['bad', 'Unexpected answer'],
};

const MEANINGS = {
  retries_exhausted: 'The last attempt of the retry schedule failed.',
  client_error: 'The receiver refused it with a 4xx status.',
  gone: 'The receiver answered 410: it does not want webhooks any more.',
  expired: 'The deadline passed before an attempt succeeded.',
  validation: 'The URL or the request is not valid, so that no attempt can be made.',
  malformed: 'The message could not be read. It cannot be redriven.',
  crashed: 'The outcome is unknown: the receiver may have it.',
  endpoint_gone: 'The endpoint was deleted.',
  catch_up_refused: 'It was owed to a paused endpoint, and not wanted any more when that was enabled.',
};

export const kindOf = (word) => WORDS[word]?.[0] ?? 'off';
export const nameOf = (word) => WORDS[word]?.[1] ?? String(word).replaceAll('_', ' ');
export const meaningOf = (word) => MEANINGS[word];

export const REASONS = Object.keys(MEANINGS);

const counting = new Intl.NumberFormat('en');
export const number = (value) => counting.format(value);

/** `3 deliveries`, `1 delivery`; with `isMore`, `at least 3 deliveries`. */
export function count(value, one, many = `${one}s`, isMore = false) {
  return `${isMore ? 'at least ' : ''}${number(value)} ${value === 1 ? one : many}`;
}
