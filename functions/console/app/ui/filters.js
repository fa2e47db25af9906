// The filters above a list. They are kept in the address. `/` puts the focus on the first one.
import { html } from '../view.js';
import { setQuery } from '../router.js';
import { fromField, toField } from './time.js';

addEventListener('keydown', (event) => {
  const typing = event.target.closest?.('input, textarea, select, dialog');
  if (event.key !== '/' || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const first = document.querySelector('.filters input, .filters select');
  if (!first) return;
  event.preventDefault();
  first.focus();
});

export const Filters = ({ children }) => html`<div class="filters" role="search" aria-label="Filters">${children}</div>`;

/** Text is taken with Enter or when the reader leaves the field, not with every key: each change is a request. */
export const TextFilter = ({ name, label, query, ...rest }) => html`<div class="field">
  <label for="filter-${name}">${label}</label>
  <input id="filter-${name}" type="search" ...${rest} value=${query[name] ?? ''}
    onChange=${(event) => setQuery({ [name]: event.target.value.trim() })} />
</div>`;

export const SelectFilter = ({ name, label, query, options }) => html`<div class="field">
  <label for="filter-${name}">${label}</label>
  <select id="filter-${name}" value=${query[name] ?? ''} onChange=${(event) => setQuery({ [name]: event.target.value })}>
    ${options.map(([value, word]) => html`<option key=${value} value=${value}>${word}</option>`)}
  </select>
</div>`;

export const TimeFilter = ({ name, label, query }) => html`<div class="field">
  <label for="filter-${name}">${label}</label>
  <input id="filter-${name}" type="datetime-local" value=${toField(query[name])}
    onChange=${(event) => setQuery({ [name]: fromField(event.target.value) })} />
</div>`;
