/** nginx, which serves files as fast as anyone does. From Debian: `nginx-light`. */
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";

export interface FileServer extends AsyncDisposable {
  readonly url: string;
  readonly pid: number;
}

/** Serve the files of a directory. One worker, as Narbor has one main thread. */
export async function startNginx(directory: string): Promise<FileServer> {
  const own = await mkdtemp(join(tmpdir(), "narbor-nginx-"));
  const port = 20_000 + (process.pid % 20_000);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${own}/${kind};`).join(" ");
  const configuration = `daemon off; master_process off; pid ${own}/nginx.pid; error_log stderr crit; worker_processes 1; events {}
http { access_log off; sendfile on; ${temporary} server { listen 127.0.0.1:${port}; root ${directory}; } }`;
  await writeFile(join(own, "nginx.conf"), configuration);
  const child = spawn("nginx", ["-c", join(own, "nginx.conf"), "-g", `user ${userInfo().username};`], { stdio: ["ignore", "inherit", "inherit"] });
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; tries < 100; tries++) {
    if (await fetch(url).then(() => true, () => false)) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url,
    pid: child.pid ?? 0,
    [Symbol.asyncDispose]: async () => {
      child.kill();
      await rm(own, { recursive: true, force: true });
    },
  };
}
