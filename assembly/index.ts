export { arenaAddress, arenaLength, outAddress, outWords } from "./arena";
export { nextClear, nextSet, popcount, setRuns } from "./bits";
export { firstDifference } from "./compare";
export { crc16 } from "./crc16";
export { crc32c } from "./crc32c";
export { dirhash } from "./dirhash";
export { extInodes } from "./ext-inode";
export { ntfsFix, ntfsUnfix } from "./fixup";
export { scrambleNames } from "./names";
export { ntfsRecords } from "./ntfs-records";
export { ntfsOwners, ntfsWipeIndex, ntfsWipeRecords } from "./ntfs-wipe";
export { dropCommands, readCommands, writeCommands } from "./ntfsclone";
export { fillBe64, fillRefcounts, turnWords } from "./qcow2";
export {
  checkCopied,
  compareRefcounts,
  countL2,
  freeCounter,
  lastCounter,
  loadRefcounts,
  storeRefcounts,
} from "./qcow2-check";
export {
  addRefcounts,
  clearCopied,
  countProgression,
  l2Runs,
  nextRefcount,
  setCopied,
} from "./qcow2-edit";
export {
  deriveKey,
  describeWord,
  drawNames,
  fillText,
  listNames,
  nameAt,
  nameCount,
  rewriteNames,
  scanWords,
} from "./sanitize-names";
export { storedSectors } from "./sectors";
export { isZero, nonzeroRuns } from "./zero";
