/**
 * Before the tests: a Nix client to test against. Installed where that is possible without asking (Debian, root); otherwise one line says
 * what will not be covered. In CI the tests themselves fail when it is missing.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

const has = (program) => spawnSync("sh", ["-c", `command -v ${program}`]).status === 0;

if (!has("nix")) {
  const canInstall = process.getuid?.() === 0 && existsSync("/etc/debian_version") && has("apt-get");
  if (canInstall) {
    console.log("Installing Nix from Debian for the tests with a real client (nix-bin)");
    const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    try {
      execFileSync("apt-get", ["update", "-qq"], { stdio: "inherit", env: environment });
      execFileSync("apt-get", ["install", "-y", "-qq", "--no-install-recommends", "nix-bin"], { stdio: ["ignore", "ignore", "inherit"], env: environment });
    } catch {
      console.log("Nix could not be installed: the tests with a real client are left out");
    }
  } else console.log("No nix on the PATH, and it cannot be installed here: the tests with a real client are left out");
}
