import test from "ava";
import { rawFormat } from "../../../src/image/raw/format.ts";
import { MemorySource } from "../../../src/io/memory.ts";

test("a raw image is its file", async (t) => {
  const source = new MemorySource(Uint8Array.from([1, 2, 3, 4, 5]), "five");
  t.true(rawFormat.probe(new Uint8Array(0)));
  const image = await rawFormat.open(source, () => {
    throw new Error("nothing to ask for");
  });
  t.is(image.format, "raw");
  t.is(image.size, 5);
  t.is(image.label, "five");
  const into = new Uint8Array(4);
  t.is(await image.read(into, 2), 3);
  t.deepEqual([...into], [3, 4, 5, 0]);
  t.is((await image.map(0, 5)).end, 5);
  t.deepEqual(
    image.info().map((f) => [f.key, f.value]),
    [["virtualSize", 5]],
  );
  await image.close();
});
