import { DATA, type MapRuns, ZERO } from "../../src/bytes/runs.ts";
import { print } from "../ui/out.ts";
import { type CommandSpec, INPUT_OPTIONS, JSON_OPTION, readArguments } from "./arguments.ts";
import { openDisk } from "./input.ts";

const SPEC: CommandSpec = {
  operands: ["FILE"],
  about: "List which bytes of the disk inside an image hold data, and where they are stored.",
  options: [...INPUT_OPTIONS, JSON_OPTION],
  notes: `States: data (stored bytes), zero (marked as zeros), hole (not stored, reads as zeros).
Depth counts layers: 0 is the image itself, 1 its backing file. Offset is the byte in the file
of that layer, where the bytes are stored as they are. All numbers are bytes.`,
  examples: [
    ["disk.qcow2", "a table"],
    ["--json disk.qcow2", "a JSON list of start, length, state, depth, offset and file"],
  ],
};

export async function run(program: string, args: readonly string[]): Promise<number> {
  const read = readArguments(program, args, SPEC);
  if (read === null) return 0;
  const { mapRuns } = await import("../../src/engine/map.ts");
  const opened = await openDisk(read.operands[0], read.input());
  try {
    const put = read.has("json") ? jsonRows() : textRows();
    for await (const batch of mapRuns(opened.source)) put.batch(batch);
    put.end();
  } finally {
    await opened.close();
  }
  return 0;
}

interface Rows {
  batch(runs: MapRuns): void;
  end(): void;
}

function stateName(state: number): string {
  return state === DATA ? "data" : state === ZERO ? "zero" : "hole";
}

function textRows(): Rows {
  print(`${"start".padStart(16)} ${"length".padStart(16)}  state  depth ${"offset".padStart(16)}\n`);
  return {
    batch(runs) {
      let text = "";
      for (let i = 0; i < runs.count; i++) {
        const start = String(runs.at[i]).padStart(16);
        const length = String(runs.length[i]).padStart(16);
        const offset = runs.host[i] < 0 ? "-" : String(runs.host[i]);
        const depth = String(runs.depth[i]).padStart(5);
        text += `${start} ${length}  ${stateName(runs.state[i])}   ${depth} ${offset.padStart(16)}\n`;
      }
      print(text);
    },
    end() {},
  };
}

function jsonRows(): Rows {
  let first = true;
  return {
    batch(runs) {
      let text = "";
      for (let i = 0; i < runs.count; i++) {
        const row: Record<string, unknown> = {
          start: runs.at[i],
          length: runs.length[i],
          state: stateName(runs.state[i]),
          depth: runs.depth[i],
          offset: runs.host[i] < 0 ? null : runs.host[i],
        };
        if (runs.file[i] >= 0) row["file"] = runs.files[runs.file[i]].path;
        text += `${first ? "[" : ","}\n  ${JSON.stringify(row)}`;
        first = false;
      }
      print(text);
    },
    end() {
      print(first ? "[]\n" : "\n]\n");
    },
  };
}
