// The test command: lint, format and types, one full build, then every test. The last line is "N passed, N failed".
//   node scripts/test.mjs [--no-check] [--no-build] [test file ...]
// A test file is named by its source (test/unit/x.test.ts) or its compiled module.
import { spawn, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";

const args = process.argv.slice(2);
const flag = (name) => args.includes(name);
const files = args
  .filter((a) => !a.startsWith("--"))
  .map((a) => (a.endsWith(".ts") ? `build/${a.replace(/\.ts$/, ".js")}` : a));

let passed = 0;
let failed = 0;
const started = Date.now();

/** Prints the tally as the very last line and ends with the matching code. */
function finish(code) {
  if (code !== 0 && failed === 0) failed = 1;
  console.log(`\n${((Date.now() - started) / 1000).toFixed(0)} s`);
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  process.exitCode = failed > 0 ? 1 : code;
}

function step(title, script) {
  console.log(`> ${title}`);
  const r = spawnSync("npm", ["run", "--silent", script], { stdio: "inherit" });
  return r.status === 0;
}

function ready() {
  if (!flag("--no-check") && !(step("lint and format", "lint") && step("types", "types"))) return false;
  return step(flag("--no-build") ? "compile" : "build", flag("--no-build") ? "compile" : "build");
}

/** Runs ava and shows what failed; a passing test is only counted. */
function tests() {
  console.log("> tests");
  const child = spawn(process.execPath, ["node_modules/ava/entrypoints/cli.mjs", "--tap", ...files], {
    stdio: ["ignore", "pipe", "inherit"],
    // After a full build, the command line is tested as it is shipped.
    env: { ...process.env, ...(flag("--no-build") ? {} : { IMPRINT_TEST_CLI: "dist/cli/main.js" }) },
  });
  let showing = false;
  let reported = 0;
  let last = Date.now();
  createInterface({ input: child.stdout }).on("line", (line) => {
    const m = /^(not )?ok \d+/.exec(line);
    reported = Math.max(reported, Number(/^# fail (\d+)/.exec(line)?.[1] ?? 0));
    if (m && / # (SKIP|TODO)/.test(line)) console.log(line);
    else if (m) {
      showing = m[1] !== undefined;
      if (showing) failed++;
      else passed++;
      if (Date.now() - last > 30_000) {
        last = Date.now();
        console.log(`  ${passed} passed, ${failed} failed so far`);
      }
    } else if (/^(TAP version|1\.\.\d|# (tests|pass|fail))/.test(line)) showing = false;
    else if (line.startsWith("Bail out")) {
      failed++;
      showing = true;
    }
    if (showing || (!m && line.startsWith("#   "))) console.log(line);
  });
  child.on("close", (code) => {
    failed = Math.max(failed, reported);
    finish(code ?? 1);
  });
}

if (ready()) tests();
else finish(1);
