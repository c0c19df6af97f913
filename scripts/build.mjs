// One build: kernel, then plain modules for tests and bench (build/), bundles (dist/) and the page (dist/web/).
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, rmSync } from "node:fs";
import * as esbuild from "esbuild";

const node = (script, ...args) => execFileSync(process.execPath, [script, ...args], { stdio: "inherit" });

node("scripts/build-kernel.mjs");
rmSync("dist", { recursive: true, force: true });
node("scripts/compile.mjs");

const common = {
  bundle: true,
  format: "esm",
  target: "es2022",
  splitting: true,
  chunkNames: "chunks/[name]-[hash]",
  legalComments: "none",
  logLevel: "warning",
};
const external = ["koffi", "pako", "zstd-codec", "@assemblyscript/loader"];
const tools = ["e2image", "o2image", "btrfs-image", "ntfsclone", "qemu-img"].filter((t) =>
  existsSync(`cli/bin/${t}.ts`),
);
await esbuild.build({
  ...common,
  platform: "node",
  minifySyntax: true,
  external: ["koffi", "pako", "zstd-codec"],
  entryPoints: {
    "cli/main": "cli/main.ts",
    ...Object.fromEntries(tools.map((t) => [`cli/${t}`, `cli/bin/${t}.ts`])),
    node: "src/node.ts",
    "bulk-worker": "src/node/bulk-worker.ts",
  },
  outdir: "dist",
});
await esbuild.build({
  ...common,
  platform: "neutral",
  external,
  entryPoints: { index: "src/index.ts", web: "src/web.ts" },
  outdir: "dist",
});
node(
  "node_modules/typescript/bin/tsc",
  "-p",
  "tsconfig.json",
  "--emitDeclarationOnly",
  "--outDir",
  "dist/types",
);
for (const t of ["main", ...tools]) chmodSync(`dist/cli/${t}.js`, 0o755);
if (existsSync("web/vite.config.mjs"))
  node("node_modules/vite/bin/vite.js", "build", "--config", "web/vite.config.mjs", "--logLevel", "warn");
