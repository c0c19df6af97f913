import type { FilesystemSummary, Inspection, PartitionEntry } from "../../src/engine/api.ts";
import type { InfoField } from "../../src/fs/volume.ts";
import type { OpenedView } from "../protocol.ts";
import { bytes, fact } from "../text.ts";
import { h } from "./dom.ts";

/** Facts shown before "All facts" is opened. */
const SHOWN = 10;

/** The partition table, or null where there is none. `choose` is called with the partition to look at. */
export function partitionsView(view: OpenedView, choose: (partition: number) => void): HTMLElement | null {
  const { inspection, partition } = view;
  return inspection.partitions.length > 0 ? partitionTable(inspection, partition, choose) : null;
}

/** What the image is: the filesystem captures take, and the container. */
export function factsView(view: OpenedView): HTMLElement {
  const { inspection, partition } = view;
  const chosen = inspection.partitions.find((p) => p.number === partition);
  const filesystem = partition === null ? inspection.filesystem : (chosen?.filesystem ?? null);
  return h(
    "div",
    { class: "summary" },
    filesystem === null ? noFilesystem(inspection, partition) : filesystemCard(filesystem),
    containerCard(inspection),
  );
}

function containerCard(inspection: Inspection): HTMLElement {
  return h(
    "section",
    { class: "card", "aria-labelledby": "container-title", id: "container" },
    h("h2", { id: "container-title" }, "Container"),
    facts([
      { key: "format", label: "Format", value: formatName(inspection.format) },
      { key: "size", label: "File size", value: inspection.size, unit: "bytes" },
      { key: "diskSize", label: "Disk size", value: inspection.diskSize, unit: "bytes" },
      ...inspection.container.filter((f) => !["format", "size", "diskSize", "virtualSize"].includes(f.key)),
    ]),
  );
}

function filesystemCard(filesystem: FilesystemSummary): HTMLElement {
  const readable = filesystem.supported || filesystem.kind === "damaged";
  return h(
    "section",
    { class: "card", "aria-labelledby": "filesystem-title", id: "filesystem" },
    h("h2", { id: "filesystem-title" }, readable ? "Filesystem" : "Contents"),
    h(
      "p",
      { class: "headline" },
      h("span", { class: "badge" }, filesystem.kind),
      filesystem.blockSize === 0
        ? ""
        : ` ${bytes(filesystem.size)}, blocks of ${bytes(filesystem.blockSize)}`,
    ),
    readable
      ? ""
      : h("p", { class: "quiet" }, "This cannot be looked into. The disk can still be converted."),
    facts(filesystem.info),
  );
}

function noFilesystem(inspection: Inspection, partition: number | null): HTMLElement {
  const many = partition === null && inspection.partitions.some((p) => p.filesystem !== null);
  return h(
    "section",
    { class: "card", id: "filesystem" },
    h("h2", {}, "Filesystem"),
    h(
      "p",
      { class: "quiet" },
      many
        ? "This disk holds several filesystems. Choose a partition to look into it."
        : "No ext2, ext3, ext4 or NTFS filesystem was found here. The disk can still be converted.",
    ),
  );
}

function partitionTable(
  inspection: Inspection,
  partition: number | null,
  choose: (partition: number) => void,
): HTMLElement {
  const rows = inspection.partitions.map((p) => partitionRow(p, p.number === partition, choose));
  return h(
    "section",
    { class: "card", "aria-labelledby": "partitions-title", id: "partitions" },
    h("h2", { id: "partitions-title" }, "Partitions"),
    h("p", { class: "quiet" }, `${inspection.partitionTable.toUpperCase()} partition table`),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ...["", "Type", "Filesystem", "Size", "Start"].map((t, i) =>
              h("th", { scope: "col", class: i >= 3 ? "number" : "" }, t === "" ? hidden("Chosen") : t),
            ),
          ),
        ),
        h("tbody", {}, ...rows),
      ),
    ),
  );
}

function partitionRow(
  p: PartitionEntry & { readonly filesystem: FilesystemSummary | null },
  chosen: boolean,
  choose: (partition: number) => void,
): HTMLElement {
  const radio = h("input", {
    type: "radio",
    name: "partition",
    id: `partition-${p.number}`,
    value: String(p.number),
    change: () => choose(p.number),
  });
  radio.checked = chosen;
  const label = p.name === "" ? p.type : `${p.type} “${p.name}”`;
  return h(
    "tr",
    { class: chosen ? "chosen" : "" },
    h("td", {}, radio),
    h("td", {}, h("label", { for: `partition-${p.number}` }, `${p.number}. ${label}`)),
    h("td", {}, p.filesystem?.kind ?? "–"),
    h("td", { class: "number" }, bytes(p.size)),
    h("td", { class: "number" }, bytes(p.start)),
  );
}

/** A list of facts; what exceeds a screenful folds away. */
function facts(fields: readonly InfoField[]): HTMLElement {
  const list = (part: readonly InfoField[]) =>
    h(
      "dl",
      { class: "facts" },
      ...part.map((f) =>
        h("div", { "data-key": f.key }, h("dt", {}, f.label), h("dd", {}, ...breakable(fact(f)))),
      ),
    );
  if (fields.length <= SHOWN + 2) return list(fields);
  return h(
    "div",
    {},
    list(fields.slice(0, SHOWN)),
    h("details", {}, h("summary", {}, `${fields.length - SHOWN} more facts`), list(fields.slice(SHOWN))),
  );
}

/** Text that may break after underscores (feature names). */
function breakable(text: string): (Node | string)[] {
  return text
    .split("_")
    .flatMap((part, i, all) => (i < all.length - 1 ? [`${part}_`, document.createElement("wbr")] : [part]));
}

function hidden(text: string): HTMLElement {
  return h("span", { class: "hidden" }, text);
}

/** The name people know a container by. */
export function formatName(format: string): string {
  return format === "qcow2" ? "QCOW2" : format === "raw" ? "Raw" : format;
}
