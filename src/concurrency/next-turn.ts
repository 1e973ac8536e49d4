/** Turns of the event loop, for long work that waits for nothing: others are answered meanwhile. */
import { Fifo } from "./fifo.ts";

const waiting = new Fifo<() => void>();

/**
 * Go on in a turn of one's own. One in each goes on, in the order in which they came: thirty that work for three milliseconds at a time would together let the
 * event loop stand still for a hundred.
 */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    if (waiting.length === 1) setImmediate(goOn);
  });
}

function goOn(): void {
  waiting.shift()?.();
  // Not within this turn: what is set within it is for the next.
  if (waiting.length > 0) setImmediate(goOn);
}
