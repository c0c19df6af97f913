// qemu-img check over the whole corpus of QCOW2 images: texts, JSON and exit codes of the installed qemu-img.
import test from "ava";
import { runHere } from "../support/in-process.ts";
import { limiter, run } from "../support/native.ts";
import { qcow2Corpus } from "../support/qcow2-corpus.ts";

test("check says of every image of the corpus what qemu-img says", async (t) => {
  const images = await qcow2Corpus();
  const gate = limiter(2);
  const codes = new Set<number | null>();
  await Promise.all(
    images.flatMap((image) =>
      ["human", "json"].map((output) =>
        gate(async () => {
          const args = ["check", `--output=${output}`];
          const native = await run("qemu-img", [...args, image.file], { cwd: image.dir });
          const ours = await runHere(["qemu-img", ...args, image.file], image.dir);
          codes.add(native.code);
          // Native wants a key first; ours needs none.
          if (image.tags.includes("encrypted")) {
            t.deepEqual([native.code, ours.code, ours.stderr], [1, 0, ""], `${image.name}, ${output}`);
            return;
          }
          t.deepEqual(
            [ours.code, ours.stdout, ours.stderr],
            [native.code, native.stdout.toString("latin1"), native.stderr],
            `${image.name}, ${output}`,
          );
        }),
      ),
    ),
  );
  t.true(images.length > 100, `${images.length} images`);
  for (const code of [0, 1, 2, 3, 63]) t.true(codes.has(code), `an image with exit code ${code}`);
});
