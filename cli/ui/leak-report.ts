import type { LeakFound, SanitizeReport } from "../../src/engine/sanitize.ts";
import { formatSize, printable, table } from "./format.ts";

/** Words found that are printed; the JSON form has more. */
const MOST_LINES = 50;

const JOURNAL: Readonly<Record<SanitizeReport["journal"], string>> = {
  none: "none",
  external: "on another device; not in the image",
  dropped: "clean; its log is empty in the image",
  replayed: "replayed; its log is empty in the image",
  "dropped unreplayed": "thrown away with what it still held; the image may not check clean",
};

/** The report of a sanitised capture, for a person. */
export function printLeakReport(r: SanitizeReport, put: (text: string) => void): void {
  const count = (n: number): string => n.toLocaleString("en-US");
  const rows: [string, string][] = [
    [
      "names",
      `${count(r.names)} in ${count(r.directories)} directories, ${count(r.indexedDirectories)} indexed`,
    ],
    ["symlink targets", count(r.symlinkTargets)],
    [
      "attribute values",
      `${count(r.attributeValues)}, with ${count(r.attributeNames)} different user.* names`,
    ],
    ["inline file contents", count(r.inlineFiles)],
    ["dead inodes wiped", count(r.wipedInodes)],
    ["texts of superblock and MMP", count(r.superblockTexts)],
    ["journal", JOURNAL[r.journal]],
  ];
  if (r.movedNames > 0) rows.push(["moved within their directory", count(r.movedNames)]);
  if (r.unindexedDirectories > 0) rows.push(["directories without index now", count(r.unindexedDirectories)]);
  put(`\nReplaced (seed ${printable(r.seed)}: the same seed gives the same names):\n`);
  put(table(rows.map(([what, n]) => [`  ${what}`, n])));
  put("\nKept:\n");
  for (const k of r.kept) put(`  ${k.count > 0 ? `${count(k.count)} ` : ""}${printable(k.what)}: ${k.why}\n`);
  put(`\n${searchText(r)}`);
  for (const f of r.search.found.slice(0, MOST_LINES)) put(`  ${foundText(f)}\n`);
  const more = r.search.found.length - MOST_LINES + r.search.unlisted;
  if (r.search.found.length > MOST_LINES) put(`  ... and ${count(more)} more words (--json lists more)\n`);
}

function searchText({ search: s }: SanitizeReport): string {
  const where = s.searched === "output" ? "the finished image" : "what was written";
  const skipped = s.uniform > 0 ? ` (${s.uniform} more are one byte repeated, which is no trace)` : "";
  const what = `${s.words.toLocaleString("en-US")} original words of 4 bytes and more${skipped}`;
  const n = s.found.length + s.unlisted;
  const result = n === 0 ? "none is in it" : `${n} ${n === 1 ? "is" : "are"} in it, by accident or kept:`;
  return `Search of ${where}, ${formatSize(s.bytes)}, for ${what}: ${result}\n`;
}

function foundText(f: LeakFound): string {
  const at = f.offsets.map((o) => `0x${o.toString(16)}`).join(", ");
  const more = f.count > f.offsets.length ? ", ..." : "";
  return `"${f.text}" (${f.kind}): ${f.count} ${f.count === 1 ? "time" : "times"}, at ${at}${more}`;
}
