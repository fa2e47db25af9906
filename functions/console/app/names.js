// What the service takes for a name in a path. The gate refuses everything else as it refuses a token that is void, so such
// a word must never be asked for.
const GRAMMAR = {
  tenant: /^([A-Za-z0-9][A-Za-z0-9_-]{0,63}|_operator)$/,
  endpoint: /^ep_[A-Za-z0-9]{22}$/,
  event: /^[A-Za-z0-9_-]{1,64}$/,
  replay: /^[A-Za-z0-9_-]{1,64}$/,
  name: /^(?=.{1,128}$)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/,
  // A direct webhook, a delivery to an endpoint, or an event of a tenant: each has a grammar of its own, which is narrower.
  id: /^(?!\.{1,2}$)[A-Za-z0-9_:.~-]{1,200}$/,
};

export const isName = (kind, value) => GRAMMAR[kind].test(value);
