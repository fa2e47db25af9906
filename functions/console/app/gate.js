// The gate refuses a void token and a path that it does not let through with the same words. Which of them it was is asked
// with a call that every session may make.
import { isRefusal, parsed, send } from './http.js';
import { endSession, session } from './session.js';

let asked = null;

export const withToken = (token) => ({ authorization: `Bearer ${token}` });

async function ask(token) {
  const { answer, text } = await send('../api/event-types?limit=1', { method: 'GET', headers: withToken(token) });
  return isRefusal(answer, parsed(text));
}

/** Ends the session if its token is refused everywhere. However many calls want to know, one asks at a time. */
export async function endIfVoid(token) {
  const isPresent = () => session()?.token === token;
  if (!isPresent()) return;
  if (asked?.token !== token) asked = { token, isVoid: ask(token).catch(() => false) };
  const mine = asked;
  const isVoid = await mine.isVoid;
  if (asked === mine) asked = null;
  if (isVoid && isPresent()) endSession('ended');
}
