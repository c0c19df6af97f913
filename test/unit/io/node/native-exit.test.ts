import { spawnSync } from "node:child_process";
import test from "ava";

const module = new URL("../../../../src/io/node/native-exit.js", import.meta.url).href;

test("the process ends at once with its code, and no listener is called", (t) => {
  const script =
    `import { exitNow } from ${JSON.stringify(module)}; process.on("exit", () => console.log("heard")); ` +
    `setInterval(() => {}, 1000); exitNow(7); console.log("went on");`;
  const r = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  t.is(r.status, 7, r.stderr);
  t.is(r.stdout, "");
});
