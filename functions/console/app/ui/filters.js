// The filters above a list. They are kept in the address.
import { html, useEffect, useState } from '../view.js';
import { setQuery } from '../router.js';
import { fromField, toField } from './time.js';

const EARLIEST = '1970';

export const Filters = ({ children }) => html`<div class="filters" role="search" aria-label="Filters">${children}</div>`;

/**
 * What is typed stays while the list below is read again. It gives way as soon as the address has another value.
 * `take` says false of what is not complete yet.
 */
function useDraft(value, take) {
  const [typed, setTyped] = useState(null);
  useEffect(() => setTyped(null), [value]);
  return {
    value: typed ?? value,
    onInput: (event) => setTyped(event.target.value),
    onChange: (event) => {
      if (take(event.target.value) !== false) setTyped(null);
    },
  };
}

/** Text is taken with Enter or when the reader leaves the field, not with every key: each change is a request. */
export function TextFilter({ name, label, query, ...rest }) {
  const draft = useDraft(query[name] ?? '', (text) => setQuery({ [name]: text.trim() }));
  return html`<div class="field">
    <label for="filter-${name}">${label}</label>
    <input id="filter-${name}" type="search" ...${rest} ...${draft} />
  </div>`;
}

export const SelectFilter = ({ name, label, query, options }) => html`<div class="field">
  <label for="filter-${name}">${label}</label>
  <select id="filter-${name}" value=${query[name] ?? ''} onChange=${(event) => setQuery({ [name]: event.target.value })}>
    ${options.map(([value, word]) => html`<option key=${value} value=${value}>${word}</option>`)}
  </select>
</div>`;

export function TimeFilter({ name, label, query }) {
  const draft = useDraft(toField(query[name]), (text) => {
    // On the way to 2026 the field says 0002 and 0020.
    if (text && text < EARLIEST) return false;
    return setQuery({ [name]: fromField(text) });
  });
  return html`<div class="field">
    <label for="filter-${name}">${label}</label>
    <input id="filter-${name}" type="datetime-local" ...${draft} />
  </div>`;
}
