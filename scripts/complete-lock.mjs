/**
 * Put back into package-lock.json the binary packages of other platforms.
 *
 * A registry mirror that holds only the packages of one platform makes npm leave the others out of the lock file, and `npm ci` then refuses the lock file
 * everywhere. They are optional and are not installed here; on their own platform npm finds them by name and version.
 * Run it after `npm install`, where `npm ci --dry-run` says "Missing: … from lock file".
 */
import { readFileSync, writeFileSync } from "node:fs";

const file = new URL("../package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(file, "utf8"));

const SYSTEMS = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"];
const PROCESSORS = { arm64: "arm64", aarch64: "arm64", x64: "x64", ia32: "ia32", armv7: "arm", arm: "arm", ppc64: "ppc64", riscv64: "riscv64", s390x: "s390x", loong64: "loong64", mips64el: "mips64el", wasm32: "wasm32" };

let added = 0;
for (const [path, parent] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    const isThere = [`${path}/node_modules/${name}`, `node_modules/${name}`].some((place) => place in lock.packages);
    if (isThere || path === "") continue;
    const words = name.split(/[-/]/);
    const os = words.find((word) => SYSTEMS.includes(word));
    const cpu = words.map((word) => PROCESSORS[word]).find((word) => word !== undefined);
    if (cpu === undefined) continue;
    lock.packages[`node_modules/${name}`] = { version, cpu: [cpu], ...(parent.dev && { dev: true }), optional: true, ...(os !== undefined && { os: [os] }) };
    added++;
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(file, `${JSON.stringify(lock, undefined, 2)}\n`);
console.log(`${added} packages of other platforms put back`);
