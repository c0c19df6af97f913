import { Kernel } from "../../../kernel/kernel.ts";

/** What a key is for, so that no two uses share text. */
export const DOMAIN = {
  names: 1,
  target: 2,
  value: 3,
  attributeName: 4,
  superblock: 5,
  mmp: 6,
} as const;
export type Domain = (typeof DOMAIN)[keyof typeof DOMAIN];

/**
 * The text that replaces what is hidden. It follows from the seed and from where it stands, never from what
 * it replaces: sixteen consonants in no order, which resemble no word and no number.
 */
export class Keys {
  /** The seed as a person gave it. */
  readonly seed: string;
  private readonly low: number;
  private readonly high: number;
  private readonly kernel = Kernel.get();

  constructor(seed: string) {
    this.seed = seed;
    const bytes = new TextEncoder().encode(seed);
    const { kernel } = this;
    [this.low, this.high] = kernel.borrow(bytes.length, (slot) => {
      slot.bytes.set(bytes);
      kernel.raw.describeWord(slot.at, bytes.length);
      return [kernel.out[1], kernel.out[2]];
    });
  }

  /** Two words that stand for (seed, domain, n). */
  key(domain: Domain, n: number): readonly [low: number, high: number] {
    this.kernel.raw.deriveKey(this.low, this.high, domain, n);
    return [this.kernel.out[0], this.kernel.out[1]];
  }

  /** Fills `into` with text. */
  fill(into: Uint8Array, domain: Domain, n: number): void {
    if (into.length === 0) return;
    const [low, high] = this.key(domain, n);
    const { kernel } = this;
    kernel.borrow(into.length, (slot) => {
      kernel.raw.fillText(slot.at, into.length, low, high);
      into.set(slot.bytes.subarray(0, into.length));
    });
  }

  /** Name number `k` of `length` bytes of a key; null where the number has none. */
  name(domain: Domain, n: number, length: number, k: number): Uint8Array | null {
    const [low, high] = this.key(domain, n);
    const { kernel } = this;
    return kernel.borrow(length + 16, (slot) =>
      kernel.raw.nameAt(slot.at, length, low, high, k) === 0 ? null : slot.bytes.slice(0, length),
    );
  }
}

const SLASH = 0x2f;
const DOT = 0x2e;

/**
 * Replaces the components of a path by as much other text; slashes, "." and ".." stay. Zero bytes stay too.
 */
export function replacePath(path: Uint8Array, keys: Keys, domain: Domain, n: number): void {
  const other = new Uint8Array(path.length);
  keys.fill(other, domain, n);
  for (let from = 0; from < path.length; ) {
    let to = from;
    while (to < path.length && path[to] !== SLASH) to++;
    const length = to - from;
    const dots = (length === 1 || length === 2) && path[from] === DOT && path[to - 1] === DOT;
    if (!dots) for (let i = from; i < to; i++) if (path[i] !== 0) path[i] = other[i];
    from = to + 1;
  }
}
