// The public faces for browsers and other runtimes import nothing of Node: read off what the bundler found.
import { join } from "node:path";
import test from "ava";
import { build, type Metafile } from "esbuild";
import { root } from "../support/native.ts";

const PACKAGES = ["@assemblyscript/loader", "pako", "zstd-codec"];

async function metafile(entry: string): Promise<Metafile> {
  const result = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    bundle: true,
    write: false,
    metafile: true,
    splitting: true,
    outdir: "unwritten",
    platform: "neutral",
    format: "esm",
    external: ["node:*", ...PACKAGES],
    logLevel: "silent",
  });
  return result.metafile;
}

for (const entry of ["src/index.ts", "src/web.ts"])
  test(`${entry} needs nothing of Node`, async (t) => {
    const { inputs } = await metafile(entry);
    t.true(Object.keys(inputs).length > 10);
    for (const [file, input] of Object.entries(inputs)) {
      t.notRegex(file, /\/node\//, `${file} is a Node adapter`);
      for (const i of input.imports)
        if (i.external) t.true(PACKAGES.includes(i.path), `${file} imports ${i.path}`);
    }
  });

test("the layers below the Node adapters name no Node module", async (t) => {
  const { inputs } = await metafile("src/web.ts");
  const { readFileSync } = await import("node:fs");
  for (const file of Object.keys(inputs).filter((f) => f.startsWith("src/"))) {
    const text = readFileSync(join(root, file), "utf8");
    t.notRegex(text, /(?:from|import\()\s*["']node:/, file);
    // The kernel's bytes are decoded by Buffer where there is one, and by atob elsewhere.
    if (file.startsWith("src/kernel/generated/")) continue;
    t.notRegex(text, /\bprocess\.(?:env|argv|exit|stdout|stderr|platform)\b|\bBuffer\.(?:from|alloc)/, file);
  }
});
