import type { Target } from "../../../io/target.ts";
import type { Editor } from "./types.ts";

/**
 * An existing image as a target of copy loops. What is not written keeps what it read as; `commit` makes the changes
 * durable and leaves the disk's size alone; `abort` drops what was not committed, but for data that went in place.
 */
export function editorTarget(editor: Editor): Target {
  return {
    label: editor.label,
    seekable: true,
    fresh: false,
    capacity: editor.size,
    write: (bytes, at) => editor.write(bytes, at),
    zero: (at, length) => editor.writeZeros(at, length),
    read: (into, at) => editor.read(into, at),
    commit: () => editor.commit(),
    abort: () => editor.close(),
  };
}
