// The longest test files first, so that both processes have work to the end.
const LONGEST = [
  "native/e2image-bytes",
  "web/page",
  "native/sanitize",
  "hostile/ext-structures",
  "native/e2image-move",
  "hostile/ext-fuzz",
  "native/e2image-install",
  "faults/move",
  "hostile/qemu-img",
  "native/ntfs-reader",
  "native/qemu-img-convert",
  "native/qemu-img-read",
  "native/e2image-scramble",
  "native/ext-select",
  "native/partition-tables",
  "native/ntfsclone-clone",
  "native/e2image-qcow2",
  "native/e2image-normal",
  "native/ntfsclone-metadata",
  "native/ntfsclone-rescue",
  "native/qcow2-write",
];

/** Place of a file in that list; whatever is not in it comes after. */
function place(file) {
  const at = LONGEST.findIndex((name) => file.endsWith(`/test/${name}.test.js`));
  return at < 0 ? LONGEST.length : at;
}

export default {
  files: ["build/test/**/*.test.js"],
  timeout: "10m",
  workerThreads: false,
  concurrency: 2,
  sortTestFiles: (a, b) => place(a) - place(b) || (a < b ? -1 : 1),
};
