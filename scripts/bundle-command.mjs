/**
 * The command in few files: Node.js takes longer to find and load two hundred than many a command then works.
 *
 * What tsc made of the command and of its threads goes to dist/command, with those packages that are ES modules or that every command needs; others, native ones among them, stay where npm puts them.
 */
import { chmodSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const BUNDLED = ["@bufbuild/protobuf", "p-limit", "yocto-queue", "valibot", "commander", "picocolors"];

// Names of shared pieces change with what is in them, and all of dist is published.
rmSync(new URL("../dist/command", import.meta.url), { recursive: true, force: true });

await build({
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
});
// npm sets the executable bit where it installs a package, but `npm install -g .` is a link to this folder.
chmodSync(new URL("../dist/command/narbor.js", import.meta.url), 0o755);
