/** A store that can say, to people, which one it is. */
export interface DescribedStore {
  /** Its directory or its address. */
  readonly name: string;
  /** What there is to tell of it, by names that are also those in JSON: how much it holds, or what it is. */
  describe(): Promise<Readonly<Record<string, string | number>>>;
}
