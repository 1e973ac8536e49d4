import { test } from "vitest";

/** A service under test, opened for one case. Disposing it closes the service and removes what it kept. */
export interface Opened<Service> extends AsyncDisposable {
  readonly service: Service;
  /** Close the service: from then on it must refuse. */
  readonly close: () => Promise<void>;
}

/** Opens a service that holds nothing yet. */
export type Open<Service> = () => Promise<Opened<Service>>;

/** One sentence of a contract. */
export interface ConformanceCase<Service> {
  readonly name: string;
  run(service: Service, opened: Opened<Service>): Promise<void>;
}

/** Register a test for every case. */
export function registerCases<Service>(cases: readonly ConformanceCase<Service>[], open: Open<Service>): void {
  test.for(cases.map((item) => [item.name, item] as const))("%s", async ([, item]) => {
    await using opened = await open();
    await item.run(opened.service, opened);
  });
}

/** The names of the cases that a service fails; hanging is failing. */
export async function failingCases<Service>(
  cases: readonly ConformanceCase<Service>[],
  open: Open<Service>,
  patience = 15_000,
): Promise<readonly string[]> {
  const results = await Promise.all(cases.map(async (item) => ((await passes(item, open, patience)) ? undefined : item.name)));
  return results.filter((name) => name !== undefined);
}

async function passes<Service>(item: ConformanceCase<Service>, open: Open<Service>, patience: number): Promise<boolean> {
  const opened = await open();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), patience);
  });
  try {
    return await Promise.race([
      late,
      item.run(opened.service, opened).then(
        () => true,
        () => false,
      ),
    ]);
  } finally {
    clearTimeout(timer);
  }
}
