/** Give the event loop a turn: for long work that waits for nothing, so that other requests are answered meanwhile. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
