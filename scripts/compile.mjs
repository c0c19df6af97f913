// Turns every TypeScript module of src, cli, test and bench into a JavaScript module under build/, one to one and
// without type checking (that is `npm run types`). Only what changed is written, whole files at a time.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import ts from "typescript";

const options = {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  verbatimModuleSyntax: true,
  rewriteRelativeImportExtensions: true,
};

/** Files below `dir` that end in `end`. */
function files(dir, end) {
  try {
    return readdirSync(dir, { recursive: true, withFileTypes: true })
      .filter((e) => e.isFile() && e.name.endsWith(end))
      .map((e) => join(e.parentPath ?? e.path, e.name));
  } catch {
    return [];
  }
}

const mtime = (f) => {
  try {
    return statSync(f).mtimeMs;
  } catch {
    return -1;
  }
};

const wanted = new Set();
for (const part of ["src", "cli", "test", "bench"]) {
  for (const file of files(part, ".ts").filter((f) => !f.endsWith(".d.ts"))) {
    const out = join("build", file.replace(/\.ts$/, ".js"));
    wanted.add(out);
    if (mtime(out) > mtime(file)) continue;
    const text = ts.transpileModule(readFileSync(file, "utf8"), {
      compilerOptions: options,
      fileName: file,
    }).outputText;
    mkdirSync(dirname(out), { recursive: true });
    writeFileSync(`${out}.${process.pid}`, text);
    renameSync(`${out}.${process.pid}`, out);
  }
  for (const out of files(join("build", part), ".js")) if (!wanted.has(out)) rmSync(out, { force: true });
}
