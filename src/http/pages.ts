/** The page at `/`: what this is and how to use it. */

/** @param origin of the address the reader came by, such as `http://127.0.0.1:7420` */
export function indexPage(origin: string, allowsWrites: boolean): string {
  const url = escapeHtml(origin);
  const push = allowsWrites
    ? `<h2>Push to it</h2>
<pre>nix copy --to '${url}' /nix/store/…-hello</pre>
<p>The closure comes along. Any of none, xz, zstd, bzip2, gzip and br is read; <code>?compression=none</code> and <code>?compression=zstd</code> are the quickest.</p>`
    : `<p>It takes no uploads at this address.</p>`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Narbor</title>
<style>
body { font: 16px/1.55 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1.25rem; color: #1b1f24; background: #fff; }
h1 { margin-bottom: .2rem; } h2 { margin-top: 2rem; font-size: 1.15rem; }
pre { background: #f3f5f7; padding: .8rem 1rem; border-radius: 6px; overflow-x: auto; } code { background: #f3f5f7; padding: .1rem .3rem; border-radius: 4px; }
pre, code { font: 14px/1.5 ui-monospace, monospace; }
@media (prefers-color-scheme: dark) { body { color: #e6e8ea; background: #15181c; } pre, code { background: #23282e; } a { color: #8ab4f8; } }
</style>
</head>
<body>
<h1>Narbor</h1>
<p>A content-addressed store for Nix. This is a <a href="https://nix.dev/manual/nix/latest/store/types/http-binary-cache-store">binary cache</a>: Nix can substitute from it and push to it.</p>
<h2>Substitute from it</h2>
<p>Once:</p>
<pre>nix copy --from '${url}' /nix/store/…-hello</pre>
<p>Always, in <code>nix.conf</code>:</p>
<pre>extra-substituters = ${url}
extra-trusted-public-keys = …</pre>
<p>Narbor does not sign paths; it serves the signatures that came with them. Nix wants one by a key in <code>trusted-public-keys</code>, unless the path is content-addressed.</p>
${push}
<h2>Look at it</h2>
<p><a href="nix-cache-info">nix-cache-info</a> · <a href="healthz">healthz</a> · <code>/&lt;hash&gt;.narinfo</code> · <code>/&lt;hash&gt;.ls</code> · <code>/nar/&lt;NarHash&gt;.nar</code></p>
</body>
</html>
`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
