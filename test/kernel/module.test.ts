import test from "ava";
import { kernelBytes } from "../../src/kernel/generated/kernel-bytes.ts";

test("the module is small, needs nothing and exports kernels only", (t) => {
  const bytes = kernelBytes();
  t.true(bytes.length < 24 * 1024, `${bytes.length} bytes`);
  const module = new WebAssembly.Module(bytes);
  t.deepEqual(WebAssembly.Module.imports(module), []);
  const names = WebAssembly.Module.exports(module).map((e) => e.name);
  t.deepEqual(
    names.filter((n) => n.startsWith("__")),
    [],
  );
  t.true(names.includes("memory"));
});

test("no i64 crosses: every export takes and gives plain numbers", (t) => {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(kernelBytes()));
  for (const [name, f] of Object.entries(exports)) {
    if (typeof f !== "function") continue;
    const zeros = Array.from({ length: f.length }, () => 0);
    try {
      const result = f(...zeros);
      t.true(result === undefined || typeof result === "number", name);
    } catch (error) {
      // A width of 0 may trap; a number where an i64 is wanted is a TypeError.
      t.true(error instanceof WebAssembly.RuntimeError, `${name}: ${error}`);
    }
  }
});
