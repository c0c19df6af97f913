// The built page, served from memory on this machine the way docs/WEB.md says: with the policy as a
// header on every file.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { root } from "../support/native.ts";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; " +
  "worker-src 'self'; connect-src 'none'; base-uri 'none'; form-action 'none'";

/** The service worker may fetch the page's own files. */
const SERVICE_WORKER = "/service-worker.js";
/** Name of the one script that needs code from strings: the zstd codec's worker. */
const ZSTD_WORKER = /zstd-worker-[^/]*\.js$/;

function policyOf(path: string): string {
  if (path === SERVICE_WORKER) return POLICY.replace("connect-src 'none'", "connect-src 'self'");
  return ZSTD_WORKER.test(path)
    ? POLICY.replace("'wasm-unsafe-eval'", "'wasm-unsafe-eval' 'unsafe-eval'")
    : POLICY;
}

export interface Site {
  readonly url: string;
  close(): Promise<void>;
}

/**
 * Starts the server; throws where the page has not been built. `before`: code to put before that of the engine worker.
 */
export async function serve(before = ""): Promise<Site> {
  const folder = join(root, "dist/web");
  if (!existsSync(join(folder, "index.html")))
    throw new Error("dist/web/index.html is missing: build the page first (npm run build)");
  const files = new Map(
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((e) => e.isFile())
      .map((e) => {
        const path = join(e.parentPath ?? e.path, e.name);
        return [path.slice(folder.length), readFileSync(path)] as const;
      }),
  );
  const server = createServer((request, response) => {
    const path = request.url === "/" ? "/index.html" : (request.url ?? "");
    const body = files.get(path);
    if (body === undefined) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "Content-Type": TYPES[extname(path)] ?? "application/octet-stream",
      "Content-Security-Policy": policyOf(path),
      "X-Content-Type-Options": "nosniff",
    });
    response.end(/\/worker-[^/]*\.js$/.test(path) ? Buffer.concat([Buffer.from(before), body]) : body);
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}
