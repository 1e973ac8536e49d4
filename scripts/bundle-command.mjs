/**
 * The command in few files: Node.js takes longer to find and load two hundred than many a command then works.
 *
 * What tsc made of the command and of its threads goes to dist/command, with those packages that are ES modules or that every command needs; others, native ones among them, stay where npm puts them.
 */
import { chmodSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const BUNDLED = ["@bufbuild/protobuf", "p-limit", "yocto-queue", "valibot", "commander", "picocolors"];

// Names of shared pieces change with what is in them, and all of dist is published.
rmSync(new URL("../dist/command", import.meta.url), { recursive: true, force: true });

const { metafile } = await build({
  absWorkingDir: fileURLToPath(new URL("..", import.meta.url)),
  entryPoints: { narbor: "dist/cli/main.js", "decode-worker": "dist/compression/decode-worker.js", "index-worker": "dist/backends/packs/index-worker.js" },
  outdir: "dist/command",
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node20",
  sourcemap: true,
  // For packages that are not ES modules.
  banner: { js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);' },
  plugins: [{
    name: "packages",
    setup({ onResolve }) {
      onResolve({ filter: /^[^.]/ }, ({ path, kind }) => {
        if (kind === "entry-point" || BUNDLED.some((name) => path === name || path.startsWith(`${name}/`))) return undefined;
        return { path, external: true };
      });
    },
  }],
  logLevel: "warning",
  metafile: true,
});

// What is bundled comes under licences that are to come with it.
const packages = new Set(Object.keys(metafile.inputs).flatMap((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []));
const licences = [...packages].sort().map((name) => {
  const folder = new URL(`../node_modules/${name}/`, import.meta.url);
  const { version, license } = JSON.parse(readFileSync(new URL("package.json", folder), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file === undefined ? "(The package comes without the text: https://spdx.org/licenses/ has it.)" : readFileSync(new URL(file, folder), "utf8").trim();
  return `${name} ${version} (${license})\n\n${text}\n`;
});
writeFileSync(new URL("../dist/command/LICENSES.txt", import.meta.url), licences.join(`\n${"-".repeat(80)}\n\n`));

// npm sets the executable bit where it installs a package, but `npm install -g .` is a link to this folder.
chmodSync(new URL("../dist/command/narbor.js", import.meta.url), 0o755);
