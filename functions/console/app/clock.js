// The time of the service. A reader's clock may be wrong by hours, so each answer's `Date` corrects it.

// A date is to the second and older than its answer. Less than this is no fault of a clock.
const TOLERATED_MS = 3_000;
let offset = 0;
let isHeard = false;

/** Takes the `date` header of an answer, which may be missing. */
export function hear(date) {
  isHeard = true;
  const ahead = Date.parse(date) - Date.now();
  if (!Number.isNaN(ahead)) offset = Math.abs(ahead) > TOLERATED_MS ? ahead : 0;
}

export const now = () => Date.now() + offset;

/** Whether a time of the service is past for sure. Before the first answer nobody knows. */
export const isPast = (at) => isHeard && Date.parse(at) <= now();
