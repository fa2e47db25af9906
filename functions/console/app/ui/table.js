// Tables. On a narrow screen each row becomes a block whose cells carry their column's name.
import { Component, html, useEffect, useRef } from '../view.js';
import { Loaded, Skeleton } from './states.js';
import { number } from './words.js';

class Row extends Component {
  // A row is drawn again only when its data changed: polling a long list costs nothing.
  shouldComponentUpdate(next) {
    return next.row !== this.props.row;
  }

  render({ row, columns }) {
    return html`<tr role="row">
      ${columns.map((column) => html`<td role="cell" class=${column.kind} data-label=${column.label}>
        ${column.cell(row)}</td>`)}
    </tr>`;
  }
}

/** `columns`: `{ label, cell(row), kind }`. A cell depends on its row alone. */
export function Table({ label, columns, rows, keyOf }) {
  return html`<table class="table" role="table" aria-label=${label}>
    <thead role="rowgroup"><tr role="row">
      ${columns.map((column) => html`<th role="columnheader" scope="col" class=${column.kind}>${column.label}</th>`)}
    </tr></thead>
    <tbody role="rowgroup">
      ${rows.map((row) => html`<${Row} key=${keyOf(row)} row=${row} columns=${columns} />`)}
    </tbody>
  </table>`;
}

/** A list of `usePages` with its states and its "Load more". `empty` is shown when there is nothing. */
export function List({ source, label, columns, keyOf, empty }) {
  const sum = useRef(null);
  const isAsked = useRef(false);
  const more = () => {
    isAsked.current = true;
    source.loadMore();
  };
  // With the last page the button goes, and the focus would go with it.
  useEffect(() => {
    if (isAsked.current && !source.cursor) sum.current?.focus();
    if (!source.loadingMore) isAsked.current = false;
  }, [source.cursor, source.loadingMore]);
  return html`<${Loaded} source=${source} skeleton=${html`<${Skeleton} lines=${8} />`}>
    ${() => html`
      ${source.rows.length > 0
        ? html`<${Table} label=${label} columns=${columns} rows=${source.rows} keyOf=${keyOf} />`
        : source.cursor
          ? html`<p class="muted">Nothing so far. The list goes on.</p>`
          : empty}
      ${source.rows.length > 0 && html`<p class="more muted" aria-live="off" tabindex="-1" ref=${sum}>
        <span>${number(source.rows.length)} shown${source.cursor ? '' : ', that is all'}</span>
      </p>`}
      ${source.cursor && html`<p class="more"><button type="button" class="button" aria-disabled=${source.loadingMore}
        onClick=${more}>
        ${source.loadingMore ? 'Loading …' : 'Load more'}
      </button></p>`}`}
  <//>`;
}
