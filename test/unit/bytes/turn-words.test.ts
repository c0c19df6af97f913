import test from "ava";
import { u32be, u32le } from "../../../src/bytes/endian.ts";
import { turnWords } from "../../../src/bytes/turn-words.ts";
import { Random } from "../../support/random.ts";

test("words are turned around, and nothing beside them", (t) => {
  const random = new Random(54);
  for (const length of [0, 1, 2, 31, 1000, 1023, 1024, 1025, 1027, 65536, 65539, 131074])
    for (const first of [0, 1, 5]) {
      const all = random.fill(new Uint8Array((length + 8) * 4));
      const before = all.slice();
      turnWords(new Uint32Array(all.buffer, first * 4, length));
      for (let i = 0; i < length + 8; i++) {
        const inside = i >= first && i < first + length;
        const read = inside ? u32be(before, i * 4) : u32le(before, i * 4);
        if (u32le(all, i * 4) !== read) t.fail(`word ${i} of ${length} from ${first}`);
      }
    }
  t.pass();
});
