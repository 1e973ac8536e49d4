import { expect, test, vi } from "vitest";
import { NarInfoTexts } from "../../src/http/narinfo.ts";
import { pathInfoOf } from "../helpers/path-infos.ts";

test("a narinfo's text is given for the object that it was made of, and for a minute", () => {
  const now = vi.spyOn(performance, "now").mockReturnValue(1_000);
  try {
    const texts = new NarInfoTexts();
    const pathInfo = pathInfoOf("hello", {});
    expect(texts.get(pathInfo)).toBeUndefined();
    texts.keep(pathInfo, "StorePath: …\n");
    now.mockReturnValue(60_999);
    expect(texts.get(pathInfo)).toBe("StorePath: …\n");
    expect(texts.get({ ...pathInfo })).toBeUndefined();
    now.mockReturnValue(61_000);
    expect(texts.get(pathInfo)).toBeUndefined();
  } finally {
    now.mockRestore();
  }
});
