// The longest test files first, so that both processes have work to the end.
const LONGEST = [
  "native/e2image-bytes",
  "web/page",
  "native/sanitize",
  "native/e2image-install",
  "native/ntfsclone-clone",
  "native/ntfsclone-metadata",
  "hostile/ext-structures",
  "hostile/ext-fuzz",
  "native/qemu-img-convert",
  "native/e2image-normal",
  "native/e2image-scramble",
  "native/ntfs-reader",
  "native/ext-select",
  "faults/move",
  "native/ext-tree",
  "native/ntfs-tree",
  "hostile/qemu-img",
  "native/qemu-img-read",
  "native/e2image-qcow2",
  "native/qcow2-write",
  "native/ntfsclone-rescue",
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
