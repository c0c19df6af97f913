import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const SERVICE_WORKER = "service-worker.js";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));

/** Writes the names of all files of the page into the service worker, which keeps them for use without a network. */
function precache() {
  return {
    name: "imprint-precache",
    enforce: "post",
    generateBundle: {
      order: "post",
      handler(_options, bundle) {
        const files = Object.keys(bundle).filter((f) => f !== SERVICE_WORKER && !f.endsWith(".html"));
        const list = ["./", "icon.svg", ...files.sort()];
        const version = createHash("sha256").update(list.join("\n")).digest("hex").slice(0, 16);
        const chunk = bundle[SERVICE_WORKER];
        chunk.code = chunk.code
          .replace(/__PRECACHE__/, JSON.stringify(list))
          .replace(/__VERSION__/, JSON.stringify(version));
      },
    },
  };
}

const NOTHING = "\0imprint-nothing";

/**
 * zstd-codec in the bundle of its own worker only, without its asm.js twin (every browser that runs the engine has
 * WebAssembly) and its use of Node modules. One plugin a worker bundle.
 */
function zstdForBrowsers() {
  let wanted = false;
  return {
    name: "imprint-zstd",
    enforce: "pre",
    buildStart(options) {
      wanted = JSON.stringify(options.input).includes("zstd-worker");
    },
    resolveId(id, importer) {
      if (id === "zstd-codec") return wanted ? null : NOTHING;
      if (!importer?.includes("/zstd-codec/")) return null;
      return /^(fs|path|crypto)$|\/zstd-codec-binding\.js$/.test(id) ? NOTHING : null;
    },
    load: (id) => (id === NOTHING ? "module.exports = {};" : null),
  };
}

/** The page: static files that work from any folder of any server, with no code from strings and no inlined assets. */
export default defineConfig({
  root: here("."),
  base: "./",
  publicDir: "public",
  plugins: [precache()],
  build: {
    outDir: "../dist/web",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1024,
    rolldownOptions: {
      input: { index: here("index.html"), "service-worker": here("service-worker.ts") },
      output: {
        entryFileNames: (chunk) =>
          chunk.name === "service-worker" ? SERVICE_WORKER : "assets/[name]-[hash].js",
      },
    },
  },
  worker: { format: "es", plugins: () => [zstdForBrowsers()] },
});
