// Prints the TypeScript module that src/hash/fastcdc.wat compiles to: `npm run generate` puts it beside that.
import { readFileSync } from "node:fs";
import loadWabt from "wabt";

const wabt = await loadWabt();
const { buffer } = wabt.parseWat("fastcdc.wat", readFileSync(new URL("../src/hash/fastcdc.wat", import.meta.url), "utf8")).toBinary({});
console.log(`// Generated from fastcdc.wat by \`npm run generate\`.\nexport const FASTCDC_WASM = "${Buffer.from(buffer).toString("base64")}";`);
