// The frame of a screen: its title in the document and as the one h1, its place, and its actions.
import { html, useEffect, useRef } from '../view.js';
import { hasMoved } from '../router.js';

/** `crumbs`: `[{ href, text }]` of the screens above. */
export function Page({ title, crumbs = [], lead, actions, children }) {
  const heading = useRef(null);
  useEffect(() => {
    if (hasMoved()) heading.current?.focus();
  }, []);
  useEffect(() => {
    document.title = `${title} · Steadhook`;
  }, [title]);
  return html`<article class="page">
    ${crumbs.length > 0 && html`<nav class="crumbs" aria-label="Breadcrumb"><ol>
      ${crumbs.map(({ href, text }) => html`<li key=${href}><a href=${href}><bdi>${text}</bdi></a></li>`)}
    </ol></nav>`}
    <header class="page-head">
      <div class="page-title"><h1 tabindex="-1" ref=${heading}><bdi>${title}</bdi></h1>${lead}</div>
      ${actions && html`<div class="buttons">${actions}</div>`}
    </header>
    ${children}
  </article>`;
}

export const Section = ({ title, actions, children, id }) => html`<section class="section"
  aria-labelledby=${id ?? slug(title)}>
  <header class="section-head"><h2 id=${id ?? slug(title)}>${title}</h2>
    ${actions && html`<div class="buttons">${actions}</div>`}</header>
  ${children}
</section>`;

const slug = (title) => `section-${title.toLowerCase().replace(/[^a-z0-9]+/g, '-')}`;

/** A list of names and values: `[['Name', value], …]`. Entries without a value are left out. */
export const Facts = ({ of, label }) => html`<dl class="facts" aria-label=${label}>
  ${of.filter(([, value]) => value !== undefined && value !== null && value !== false).map(([name, value]) => html`<div
    key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
</dl>`;
