// Where the console starts: a link to open, a session to show screens for, or a page that says how to get a link.
import { html, render, useEffect, useRef, useState } from './view.js';
import { mayWrite, ownTenant, useSession } from './session.js';
import { replace, usePlace } from './router.js';
import { screenAt } from './routes.js';
import { EndedPage, LinkPage, NoSessionPage } from './screens/link.js';
import { Boundary } from './ui/boundary.js';
import { Page } from './ui/page.js';
import { ProblemBox } from './ui/states.js';
import { Shell } from './ui/shell.js';

/** A code from the address. It is taken out of the address and the history at once. */
function takeCode() {
  const code = /^#code=(.+)$/.exec(location.hash)?.[1];
  if (code) replace('/');
  return code ?? null;
}

function NotFound() {
  return html`<${Page} title="There is no such page">
    <p>The address does not lead to a screen that you can open. <a href="#/">Go to the overview</a>.</p>
  <//>`;
}

function ReadOnly() {
  return html`<${Page} title="This session is read only">
    <p>It can see everything of its scope and change nothing. Ask for another link to make changes. <a
      href="#/">Go to the overview</a>.</p>
  <//>`;
}

const NOT_ARRIVED = {
  message: 'A part of the console did not arrive',
  detail: 'Check your connection. The console may also have been updated meanwhile.',
};

function LoadFailed() {
  return html`<${Page} title="The screen could not be loaded">
    <${ProblemBox} problem=${NOT_ARRIVED} retry=${() => location.reload()} />
  <//>`;
}

/** The screen at the present path. The one before stays until the next one's code is there. */
function Screen({ place }) {
  const [shown, setShown] = useState(null);
  const query = useRef({});
  useEffect(() => {
    let current = true;
    const found = screenAt(place.path, ownTenant());
    const showing = (screen, params = {}) => current && setShown({ screen, params, key: place.path });
    if (found?.writes && !mayWrite()) showing(ReadOnly);
    else if (found) {
      found.load().then((module) => showing(module.default, found.params), () => showing(LoadFailed));
    } else showing(NotFound);
    return () => {
      current = false;
    };
  }, [place.path]);
  if (!shown) return null;
  // The screen before must not read the query of the next one as its own.
  if (shown.key === place.path) query.current = place.query;
  return html`<${Boundary} key=${shown.key} isScreen><${shown.screen} ...${shown.params} query=${query.current} /><//>`;
}

function App() {
  const { session, ended } = useSession();
  const [code, setCode] = useState(takeCode);
  const place = usePlace();
  const shownSince = useRef(0);
  useEffect(() => {
    // A link may be opened in a tab that shows the console already. That changes the fragment alone, as does leaving it.
    const taken = takeCode();
    if (taken) shownSince.current = place.moves;
    if (taken || place.moves !== shownSince.current) setCode(taken);
  }, [place]);
  if (code) return html`<${LinkPage} key=${code} code=${code} done=${() => setCode(null)} />`;
  if (!session) return ended ? html`<${EndedPage} ...${ended} />` : html`<${NoSessionPage} />`;
  return html`<${Shell} session=${session} path=${place.path}><${Screen} key=${session.id} place=${place} /><//>`;
}

const root = document.getElementById('app');
root.replaceChildren();
render(html`<${App} />`, root);
