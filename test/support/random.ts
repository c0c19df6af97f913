/** A seeded generator (xorshift32), so that a failure comes back. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed | 0 || 1;
  }

  /** 32 random bits. */
  word(): number {
    let s = this.state;
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    this.state = s;
    return s >>> 0;
  }

  /** A whole number in [0, end). */
  below(end: number): number {
    return Math.floor((this.word() / 0x100000000) * end);
  }

  /** Fills `bytes` with random ones and returns it. */
  fill(bytes: Uint8Array): Uint8Array {
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.word() >>> 11;
    return bytes;
  }
}
