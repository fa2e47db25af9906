// Keeps a fault of one screen from taking the whole console away.
import { Component, html } from '../view.js';
import { Page } from './page.js';
import { ProblemBox } from './states.js';

const FAULT = {
  message: 'The console made a mistake here',
  detail: 'It cannot show this. Nothing was changed by that. Reload the page to try again.',
};

/** `isScreen`: what it is around is a whole screen, which has a title. */
export class Boundary extends Component {
  componentDidCatch(error) {
    console.error(error);
    this.setState({ failed: true });
  }

  render({ children, isScreen }) {
    if (!this.state.failed) return children;
    const problem = html`<${ProblemBox} problem=${FAULT} retry=${() => location.reload()} action="Reload" />`;
    return isScreen ? html`<${Page} title="This screen cannot be shown">${problem}<//>` : problem;
  }
}
