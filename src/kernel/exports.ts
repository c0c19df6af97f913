/** What assembly/index.ts exports, as wasm sees it: addresses and lengths are i32, i64 never crosses. */
export interface KernelExports {
  readonly memory: WebAssembly.Memory;
  outAddress(): number;
  outWords(): number;
  arenaAddress(): number;
  arenaLength(): number;
  isZero(at: number, length: number): number;
  nonzeroRuns(at: number, blockSize: number, blocks: number): number;
  storedSectors(at: number, sectors: number, sector: number, least: number, alignment: number): number;
  firstDifference(a: number, b: number, length: number): number;
  nextSet(at: number, from: number, to: number): number;
  nextClear(at: number, from: number, to: number): number;
  setRuns(at: number, from: number, to: number, most: number): number;
  popcount(at: number, length: number): number;
  crc32c(crc: number, at: number, length: number): number;
  crc16(crc: number, at: number, length: number): number;
  fillBe64(at: number, count: number, value: number, step: number, flags: number): void;
  turnWords(at: number, count: number): void;
  fillRefcounts(at: number, first: number, count: number, order: number, value: number): void;
  /** See assembly/qcow2-check.ts, also for those that follow. */
  countL2(
    table: number,
    from: number,
    entries: number,
    clusterBits: number,
    flags: number,
    walk: number,
    counters: number,
    width: number,
    max: number,
  ): number;
  checkCopied(
    table: number,
    from: number,
    entries: number,
    clusterBits: number,
    flags: number,
    walk: number,
    counters: number,
    width: number,
  ): number;
  compareRefcounts(
    block: number,
    entry: number,
    from: number,
    count: number,
    order: number,
    counters: number,
    width: number,
  ): number;
  loadRefcounts(
    block: number,
    entry: number,
    count: number,
    order: number,
    counters: number,
    width: number,
    max: number,
  ): void;
  storeRefcounts(
    block: number,
    entry: number,
    count: number,
    order: number,
    counters: number,
    width: number,
  ): void;
  lastCounter(counters: number, count: number, width: number): number;
  freeCounter(counters: number, from: number, count: number, width: number): number;
  /** See assembly/qcow2-edit.ts, also for those that follow. */
  l2Runs(table: number, from: number, entries: number, clusterBits: number, extended: number): number;
  setCopied(table: number, from: number, to: number, extended: number, copied: number): void;
  clearCopied(table: number, entries: number, extended: number): number;
  addRefcounts(
    block: number,
    first: number,
    count: number,
    order: number,
    delta: number,
    most: number,
  ): number;
  nextRefcount(block: number, from: number, to: number, order: number, value: number, equal: number): number;
  countProgression(at: number, count: number, high: number, low: number, step: number): number;
  /** See assembly/ext-inode.ts. */
  extInodes(
    at: number,
    inodeSize: number,
    count: number,
    flags: number,
    first: number,
    limit: number,
    into: number,
  ): number;
  /** See assembly/fixup.ts. */
  ntfsUnfix(at: number, size: number, count: number, magic: number, states: number): number;
  ntfsFix(at: number, size: number, count: number, magic: number): number;
  /** See assembly/ntfs-records.ts. */
  ntfsRecords(
    at: number,
    recordSize: number,
    count: number,
    states: number,
    apart: number,
    clusterSize: number,
    limit: number,
    into: number,
  ): number;
  /** See assembly/ntfs-wipe.ts, also for those that follow. */
  ntfsWipeRecords(
    at: number,
    recordSize: number,
    count: number,
    first: number,
    flags: number,
    scratch: number,
    counters: number,
  ): void;
  ntfsWipeIndex(
    at: number,
    blockSize: number,
    count: number,
    bitmap: number,
    bits: number,
    bit: number,
    listedOnly: number,
    scratch: number,
    counters: number,
  ): void;
  ntfsOwners(
    at: number,
    recordSize: number,
    count: number,
    states: number,
    apart: number,
    into: number,
  ): number;
  /** See assembly/names.ts. */
  scrambleNames(at: number, blockSize: number, blocks: number, counters: number): number;
  /** See assembly/dirhash.ts. */
  dirhash(at: number, length: number, version: number, seed: number): number;
  /** See assembly/sanitize-names.ts, also for those that follow. */
  deriveKey(low: number, high: number, domain: number, n: number): void;
  fillText(at: number, length: number, low: number, high: number): void;
  nameCount(length: number, folded: number): number;
  nameAt(at: number, length: number, low: number, high: number, k: number): number;
  drawNames(job: number, most: number): number;
  listNames(at: number, length: number, blockSize: number, flags: number): number;
  rewriteNames(
    at: number,
    length: number,
    blockSize: number,
    flags: number,
    low: number,
    high: number,
    numbers: number,
  ): number;
  describeWord(at: number, length: number): void;
  scanWords(at: number, length: number, from: number, filter: number, shift: number): number;
  /** See assembly/ntfsclone.ts, also for those that follow. */
  readCommands(at: number, length: number, clusterSize: number, pack: number, state: number): number;
  writeCommands(
    to: number,
    from: number,
    table: number,
    runs: number,
    clusterSize: number,
    lastBytes: number,
  ): number;
  dropCommands(to: number, from: number, size: number, count: number): void;
}
