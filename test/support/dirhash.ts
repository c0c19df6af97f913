// Hashes of ext directory names, character by character: the plain oracle for the kernel.

const MD4_START = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];

function words(name: Uint8Array, from: number, count: number, unsigned: boolean): number[] {
  const left = name.length - from;
  let pad = left | (left << 8);
  pad |= pad << 16;
  const out: number[] = [];
  let value = pad;
  const n = Math.min(left, count * 4);
  for (let i = 0; i < n; i++) {
    const c = name[from + i];
    value = ((unsigned ? c : (c << 24) >> 24) + (value << 8)) | 0;
    if (i % 4 === 3) {
      out.push(value);
      value = pad;
    }
  }
  while (out.length < count) {
    out.push(value);
    value = pad;
  }
  return out;
}

function halfMd4(state: number[], w: number[]): void {
  const rounds = [
    { order: [0, 1, 2, 3, 4, 5, 6, 7], shifts: [3, 7, 11, 19], add: 0 },
    { order: [1, 3, 5, 7, 0, 2, 4, 6], shifts: [3, 5, 9, 13], add: 0x5a827999 },
    { order: [3, 7, 2, 6, 1, 5, 0, 4], shifts: [3, 9, 11, 15], add: 0x6ed9eba1 },
  ];
  const r = [...state];
  for (const [round, { order, shifts, add }] of rounds.entries())
    order.forEach((word, i) => {
      const [a, b, c, d] = [0, 1, 2, 3].map((k) => (k + 4 - (i % 4)) % 4);
      const [x, y, z] = [r[b], r[c], r[d]];
      const f = [(x & y) | (~x & z), ((x & y) + ((x ^ y) & z)) | 0, x ^ y ^ z][round];
      const sum = (r[a] + f + w[word] + add) | 0;
      const s = shifts[i % 4];
      r[a] = (sum << s) | (sum >>> (32 - s));
    });
  for (let i = 0; i < 4; i++) state[i] = (state[i] + r[i]) | 0;
}

function tea(state: number[], w: number[]): void {
  let [x, y] = state;
  let sum = 0;
  for (let i = 0; i < 16; i++) {
    sum = (sum + 0x9e3779b9) | 0;
    x = (x + ((((y << 4) + w[0]) | 0) ^ ((y + sum) | 0) ^ (((y >>> 5) + w[1]) | 0))) | 0;
    y = (y + ((((x << 4) + w[2]) | 0) ^ ((x + sum) | 0) ^ (((x >>> 5) + w[3]) | 0))) | 0;
  }
  state[0] = (state[0] + x) | 0;
  state[1] = (state[1] + y) | 0;
}

function legacy(name: Uint8Array, unsigned: boolean): number {
  let h0 = 0x12a3fe2d;
  let h1 = 0x37abe8f9;
  for (const c of name) {
    let h = (h1 + (h0 ^ Math.imul(unsigned ? c : (c << 24) >> 24, 7152373))) | 0;
    if (h < 0) h = (h - 0x7fffffff) | 0;
    h1 = h0;
    h0 = h;
  }
  return h0 << 1;
}

/** Hash of a name: version 0 legacy, 1 half-MD4, 2 TEA, +3 for unsigned characters; seed of four words. */
export function dirhashOf(name: Uint8Array, version: number, seed: readonly number[]): number {
  const unsigned = version >= 3;
  const kind = version % 3;
  if (kind === 0) return (legacy(name, unsigned) & ~1) >>> 0;
  const state = [...(seed.some((w) => w !== 0) ? seed : MD4_START)];
  const count = kind === 1 ? 8 : 4;
  for (let from = 0; from < name.length; from += count * 4)
    (kind === 1 ? halfMd4 : tea)(state, words(name, from, count, unsigned));
  return (state[kind === 1 ? 1 : 0] & ~1) >>> 0;
}
