// JSON as text. Payloads are shown and sent byte for byte: a number such as 12345678901234567890123 must not be
// rounded, so nothing here turns a number into one of JavaScript's.

// JSON can be nested more deeply than a screen is wide, or a stack is deep.
const DEEPEST_INDENT = 40;
const DEEPEST_CHECKED = 500;

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/gs;

/** The raw text of a member of the object in `text`, or undefined. */
export function member(text, name) {
  let depth = 0;
  let key = null;
  let start = -1;
  let found;
  const end = (at) => {
    if (start >= 0) found = text.slice(start, at).trim();
    start = -1;
    key = null;
  };
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    if (token === '}' || token === ']') {
      depth -= 1;
      if (depth === 0) end(index);
    } else if (token === '{' || token === '[') depth += 1;
    else if (depth === 1 && token === ',') end(index);
    else if (depth === 1 && token === ':' && start < 0) {
      if (key !== null && JSON.parse(key) === name) start = index + 1;
    } else if (depth === 1 && start < 0 && token.startsWith('"')) key = token;
  }
  return found;
}

/** The same JSON with line breaks and indents. Text that is not JSON comes back as it is. */
export function pretty(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  const tokens = text.match(TOKEN) ?? [];
  const out = [];
  let depth = 0;
  const newline = () => out.push(`\n${'  '.repeat(Math.min(depth, DEEPEST_INDENT))}`);
  for (const [n, token] of tokens.entries()) {
    const before = tokens[n - 1];
    if (token === '{' || token === '[') {
      out.push(token);
      depth += 1;
      if (tokens[n + 1] !== '}' && tokens[n + 1] !== ']') newline();
    } else if (token === '}' || token === ']') {
      depth -= 1;
      if (before !== '{' && before !== '[') newline();
      out.push(token);
    } else if (token === ',') {
      out.push(token);
      newline();
    } else out.push(token === ':' ? ': ' : token);
  }
  return out.join('');
}

const SPACE = /[ \t\n\r]*/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;
const MARK = Object.fromEntries([...'{}[],:'].map((mark) => [mark, new RegExp(`\\${mark}`, 'y')]));

/** Where `text` stops to be JSON, or -1; null if it is nested too deeply to say. Browsers do not always say. */
function faultAt(text) {
  let at = 0;
  let depth = 0;
  const take = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at += found[0].length;
    return Boolean(found);
  };
  const next = (pattern) => take(SPACE) && take(pattern);
  const list = (end, item) => {
    if (next(end)) return true;
    depth += 1;
    do {
      if (depth > DEEPEST_CHECKED || !item()) return false;
    } while (next(MARK[',']));
    depth -= 1;
    return next(end);
  };
  const pair = () => next(STRING) && next(MARK[':']) && value();
  const value = () => {
    if (next(MARK['{'])) return list(MARK['}'], pair);
    if (next(MARK['['])) return list(MARK[']'], value);
    return next(STRING) || next(NUMBER) || next(WORD);
  };
  if (value() && take(SPACE) && at === text.length) return -1;
  return depth > DEEPEST_CHECKED ? null : at;
}

/** What is wrong with the syntax of `text`, in words for the reader, or null. */
export function syntaxFault(text) {
  try {
    JSON.parse(text);
    return null;
  } catch {
    const at = faultAt(text);
    if (at === null) return 'is not JSON';
    if (at === text.length) return 'is JSON that is not complete';
    const lines = text.slice(0, at).split('\n');
    return `is not JSON: see line ${lines.length}, column ${lines.at(-1).length + 1}`;
  }
}

/** JSON text that goes into a body as it is. */
export class Raw {
  constructor(text) {
    this.text = text;
  }
}

/** The body of a request. Values that are `Raw` stay as they were written; undefined ones are left out. */
export function compose(members) {
  const parts = Object.entries(members)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${JSON.stringify(name)}:${value instanceof Raw ? value.text : JSON.stringify(value)}`);
  return `{${parts.join(',')}}`;
}
