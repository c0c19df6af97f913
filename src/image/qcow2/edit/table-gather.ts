import { Kernel, type Slot } from "../../../kernel/kernel.ts";
import { GATHER, type ImageFile } from "./image-file.ts";

/**
 * Tables that go through the kernel's memory one after the other: read into `table`, changed there, and kept where they
 * are to be written. What lies side by side in the file is written at once.
 */
export class TableGather {
  private readonly file: ImageFile;
  private readonly unit: number;
  private readonly slot: Slot;
  /** Host offset of the first table kept, and bytes kept. */
  private first = 0;
  private length = 0;
  /** Where the next table goes: one cluster. */
  table: Slot;

  private constructor(file: ImageFile, unit: number, slot: Slot) {
    this.file = file;
    this.unit = unit;
    this.slot = slot;
    this.table = this.piece(0);
  }

  /** Calls `work` with a gatherer of tables of `unit` bytes; all that it kept is written when it returns. */
  static use(file: ImageFile, unit: number, work: (gather: TableGather) => void): void {
    Kernel.get().borrow(Math.max(GATHER, unit), (slot) => {
      const gather = new TableGather(file, unit, slot);
      work(gather);
      gather.flush();
    });
  }

  /** The table in `table` is to be at host offset `at`; the next one goes elsewhere. */
  keep(at: number): void {
    const { unit, slot } = this;
    if (this.length > 0 && at !== this.first + this.length) {
      const from = this.length;
      this.flush();
      slot.bytes.copyWithin(0, from, from + unit);
    }
    if (this.length === 0) this.first = at;
    this.length += unit;
    if (this.length + unit > slot.bytes.length) this.flush();
    this.table = this.piece(this.length);
  }

  private flush(): void {
    if (this.length > 0) this.file.write(this.slot.bytes.subarray(0, this.length), this.first);
    this.length = 0;
  }

  private piece(from: number): Slot {
    return { at: this.slot.at + from, bytes: this.slot.bytes.subarray(from, from + this.unit) };
  }
}
