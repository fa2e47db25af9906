// Whether a part of the page is still there when an answer comes.
import { useEffect, useRef } from '../view.js';

/** A function that says so. */
export function useMounted() {
  const isThere = useRef(true);
  useEffect(() => () => {
    isThere.current = false;
  }, []);
  return () => isThere.current;
}
