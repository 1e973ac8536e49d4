/** What every call to a service takes. */
export interface CallOptions {
  /** When it fires, the call rejects with its reason and stops what it was doing. */
  readonly signal?: AbortSignal | undefined;
}
