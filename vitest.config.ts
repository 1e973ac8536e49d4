import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/long/**", "node_modules/**", "dist/**"],
    pool: "forks",
    // Codec workers are started from the .ts sources: tsx lets Node.js 20 load them.
    execArgv: ["--import", "tsx"],
    testTimeout: 30_000,
    hookTimeout: 120_000,
  },
});
