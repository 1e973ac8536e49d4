// tsc writes files without the executable bit, which `npm install -g .` (a link to this folder) needs.
import { chmodSync } from "node:fs";

chmodSync(new URL("../dist/cli/main.js", import.meta.url), 0o755);
