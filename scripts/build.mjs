// One build: kernel, then plain modules for tests and bench (build/), bundles (dist/) and the page (dist/web/).
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
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
    node: "src/node.ts",
    "bulk-worker": "src/node/bulk-worker.ts",
    "compare-worker": "src/node/compare-worker.ts",
    "compress-worker": "src/node/compress-worker.ts",
  },
  outdir: "dist",
});
await buildCommandLine();
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

/**
 * The command line, made to start fast: CommonJS (Node 20 starts it sooner than modules), one small file that picks the
 * command and one file a command, and builtins without the copy of all their exports that `import` and `require` make.
 */
async function buildCommandLine() {
  mkdirSync("dist/cli", { recursive: true });
  writeFileSync("dist/cli/package.json", '{ "type": "commonjs" }\n');
  const options = {
    bundle: true,
    format: "cjs",
    platform: "node",
    target: "node20",
    minify: true,
    keepNames: false,
    legalComments: "none",
    logLevel: "warning",
    external: ["koffi", "pako", "zstd-codec"],
    supported: { "dynamic-import": false },
    define: { "import.meta.url": "moduleUrl" },
    banner: {
      js: 'const moduleUrl = "file://" + encodeURI(__filename).replace(/[?#]/g, encodeURIComponent);',
    },
  };
  const commands = [
    ...readFileSync("cli/dispatch.ts", "utf8").matchAll(
      /import\("(\.\/(?:commands|native)\/([\w-]+)\.ts)"\)/g,
    ),
  ];
  const subcommands = [
    ...readFileSync("cli/native/qemu-img.ts", "utf8").matchAll(/import\("\.\/(qemu-img\/([\w-]+))\.ts"\)/g),
  ];
  const builtins = {
    name: "builtins",
    setup(build) {
      build.onResolve({ filter: /^node:/ }, (a) => ({
        path: a.path,
        namespace: a.kind === "import-statement" ? "builtin" : "whole builtin",
      }));
      build.onLoad({ filter: /.*/, namespace: "builtin" }, (a) => ({ contents: namesOf(a.path) }));
      build.onLoad({ filter: /.*/, namespace: "whole builtin" }, (a) => ({
        contents: `module.exports = process.getBuiltinModule(${JSON.stringify(a.path)});`,
      }));
    },
  };
  const subcommandsApart = {
    name: "subcommands apart",
    setup(build) {
      build.onResolve({ filter: /^\.\/qemu-img\// }, (a) =>
        a.kind === "dynamic-import" && a.importer.endsWith("native/qemu-img.ts")
          ? { path: `./command-qemu-img-${a.path.replace(/^.*\/|\.ts$/g, "")}.js`, external: true }
          : undefined,
      );
    },
  };
  const apart = {
    name: "commands apart",
    setup(build) {
      build.onResolve({ filter: /^\.\/(commands|native)\// }, (a) =>
        a.kind === "dynamic-import" && a.importer.endsWith("dispatch.ts")
          ? { path: `./command-${a.path.replace(/^.*\/|\.ts$/g, "")}.js`, external: true }
          : undefined,
      );
    },
  };
  await esbuild.build({
    ...options,
    banner: { js: `${options.banner.js}\n${readFileSync("scripts/cached-require.cjs", "utf8")}` },
    plugins: [builtins, apart],
    entryPoints: {
      main: "cli/main.ts",
      ...Object.fromEntries(tools.map((t) => [t, `cli/bin/${t}.ts`])),
      "bulk-worker": "src/node/bulk-worker.ts",
      "compare-worker": "src/node/compare-worker.ts",
      "compress-worker": "src/node/compress-worker.ts",
    },
    outdir: "dist/cli",
  });
  for (const [, path, name] of commands)
    await esbuild.build({
      ...options,
      plugins: [builtins, subcommandsApart],
      stdin: {
        // Errors are told in the bundle that threw them: error classes are not shared between bundles.
        contents: `import { run as inner } from ${JSON.stringify(path)};
          import { report } from "./ui/errors.ts";
          export async function run(program, args) {
            try { return await inner(program, args); } catch (error) { return report(program, error); }
          }`,
        resolveDir: "cli",
        loader: "ts",
      },
      outfile: `dist/cli/command-${name}.js`,
    });
  for (const [, path, name] of subcommands)
    await esbuild.build({
      ...options,
      plugins: [builtins],
      stdin: {
        contents: `import { run as inner } from "./native/${path}.ts";
          import { guarded } from "./native/qemu-img/guard.ts";
          export const run = (program, args) => guarded(() => inner(program, args));`,
        resolveDir: "cli",
        loader: "ts",
      },
      outfile: `dist/cli/command-qemu-img-${name}.js`,
    });
  keepCompiledCode();
}

/** A builtin as a module each of whose names is only looked up where it is used. */
function namesOf(builtin) {
  const names = Object.keys(process.getBuiltinModule(builtin)).filter((n) => n !== "default");
  return `const builtin = /* @__PURE__ */ process.getBuiltinModule(${JSON.stringify(builtin)});
    const get = (name) => builtin[name];
    export default builtin;
    ${names.map((n, i) => `const n${i} = /* @__PURE__ */ get(${JSON.stringify(n)}); export { n${i} as ${n} };`).join("\n")}`;
}

/**
 * Runs the commands once on small volumes, so that their compiled code is kept (see cached-require.cjs). The NTFS one
 * was made by mkntfs and ntfs-3g; most of its $UpCase, which nothing here looks at, is zeroed to keep it short.
 */
function keepCompiledCode() {
  const scratch = mkdtempSync(join(tmpdir(), "imprint-build-"));
  const volume = join(scratch, "volume.img");
  const image = join(scratch, "volume.qcow2");
  try {
    writeFileSync(volume, gunzipSync(readFileSync("test/fixtures/demo.img.gz")));
    const ntfs = join(scratch, "ntfs.img");
    const special = join(scratch, "ntfs-special");
    writeFileSync(ntfs, gunzipSync(readFileSync("test/fixtures/demo-ntfs.img.gz")));
    const top = join(scratch, "top.qcow2");
    const made = (name) => join(scratch, name);
    for (const args of [
      ["info", volume],
      ["capture", volume, image, "--used"],
      ["map", image],
      ["restore", image, made("restored.img")],
      ["compare", volume, image],
      ["convert", image, made("converted.img")],
      ["e2image", "-r", volume, made("meta.raw")],
      ["ntfsclone", "-o", made("clone.img"), ntfs],
      ["ntfsclone", "-s", "-o", special, ntfs],
      ["ntfsclone", "-r", "-o", made("ntfs-restored.img"), special],
      ["ntfsclone", "-m", "-o", made("ntfs-metadata.img"), ntfs],
      ["ntfsclone", "-m", "-s", "-o", made("ntfs-metadata"), ntfs],
      ["qemu-img", "info", image],
      ["qemu-img", "map", image],
      ["qemu-img", "compare", volume, image],
      ["qemu-img", "measure", "-O", "qcow2", image],
      ["qemu-img", "convert", "-O", "qcow2", volume, made("converted.qcow2")],
      ["qemu-img", "dd", "-O", "raw", "bs=1M", "count=1", `if=${volume}`, `of=${made("part.img")}`],
      ["qemu-img", "create", "-f", "qcow2", "-b", image, "-F", "qcow2", top],
      ["qemu-img", "resize", top, "+1M"],
      ["qemu-img", "amend", "-o", "lazy_refcounts=on", top],
      ["qemu-img", "bitmap", "--add", top, "b"],
      ["qemu-img", "snapshot", "-c", "s", top],
      ["qemu-img", "snapshot", "-d", "s", top],
      ["qemu-img", "check", top],
      ["qemu-img", "rebase", "-b", volume, "-F", "raw", top],
      ["qemu-img", "commit", "-q", top],
    ])
      execFileSync(process.execPath, ["dist/cli/main.js", ...args], {
        stdio: "ignore",
        env: { ...process.env, IMPRINT_CODE_CACHE: "write" },
      });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
