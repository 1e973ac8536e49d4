/**
 * Names of images, such as `hello:latest` or `registry.example:5000/tools/hello:1`. Docker's have a grammar of their own; an OCI layout may have
 * a tag alone, or whatever its writer thought of.
 * See https://pkg.go.dev/github.com/distribution/reference
 */

/** What docker, containerd and the OCI make names of. Nothing of it does anything to a terminal. */
const NAME = /^[A-Za-z0-9_[][\w.:@/+[\]-]*$/;
/** An image without a name is called by its ID, so nothing else may look like one. */
const ID = /^sha256:[0-9a-f]{64}$/;

const DOMAIN = String.raw`(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?`;
const COMPONENT = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const TAGGED = new RegExp(String.raw`^(?:${DOMAIN}/)?${COMPONENT}(?:/${COMPONENT})*(?<tag>:\w[\w.-]{0,127})?$`);

/** Whether an image may be listed under a name. */
export function isImageName(name: string): boolean {
  return NAME.test(name) && !ID.test(name);
}

/** As docker shows names: what is said of the hub goes without saying. */
export function familiarName(name: string): string {
  return name.replace(/^docker\.io\/(?:library\/(?=[^/]+$))?/, "");
}

/** What `manifest.json` says of a name: docker reads no archive with one that has no tag, or that it would not give itself. */
export function repoTags(name: string): readonly [string] | null {
  const found = ID.test(name) ? null : TAGGED.exec(name);
  return found && [found.groups?.["tag"] === undefined ? `${name}:latest` : name];
}
