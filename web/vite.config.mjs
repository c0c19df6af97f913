import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

/** The page: static files that work from any folder of any server, with no code from strings and no inlined assets. */
export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  base: "./",
  publicDir: "public",
  build: {
    outDir: "../dist/web",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1024,
  },
  worker: { format: "es" },
});
