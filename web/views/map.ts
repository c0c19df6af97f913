import { type AllocationPicture, cellStart, type PictureRole } from "../../src/engine/picture.ts";
import { bytes, count, percent } from "../text.ts";
import { h } from "./dom.ts";
import { warningList } from "./errors.ts";

/** Cells asked of the engine; smaller volumes have one a block. */
export const CELLS = 4096;

const NAMES: Readonly<Record<PictureRole, string>> = {
  superblock: "Superblocks",
  descriptors: "Group descriptors",
  bitmap: "Bitmaps",
  "inode table": "Inode tables",
  journal: "Journal",
  directory: "Directories",
  index: "Extent and indirect blocks",
  xattr: "Extended attributes",
  system: "System files",
  data: "File data",
  free: "Free",
};

/** What a container without a filesystem holds. */
const MAP_NAMES: Readonly<Partial<Record<PictureRole, string>>> = { data: "Stored", free: "Holes and zeros" };

/** The allocation map: a canvas of cells, each a small bar of what is in it, and a legend with the numbers. */
export class MapView {
  readonly element: HTMLElement;
  private readonly picture: AllocationPicture;
  private readonly canvas: HTMLCanvasElement;
  private readonly detail: HTMLElement;
  private readonly resize: ResizeObserver;
  private readonly scheme = matchMedia("(prefers-color-scheme: dark)");
  private readonly redraw = () => this.draw();
  private readonly legend = new Map<PictureRole, HTMLButtonElement>();
  private columns = 1;
  private pitch = 8;
  private cursor = -1;
  private only: PictureRole | null = null;

  constructor(picture: AllocationPicture) {
    this.picture = picture;
    this.canvas = h("canvas", {
      id: "map",
      tabindex: "0",
      role: "img",
      "aria-label": this.describe(),
      "aria-describedby": "map-detail",
      pointermove: (e) => this.point(e as PointerEvent),
      pointerdown: (e) => this.point(e as PointerEvent),
      pointerleave: () => this.moveTo(-1),
      keydown: (e) => this.key(e as KeyboardEvent),
      blur: () => this.moveTo(-1),
    });
    this.detail = h("p", { id: "map-detail", class: "quiet detail", "aria-live": "polite" });
    this.element = h(
      "section",
      { class: "card map", "aria-labelledby": "map-title" },
      h("h2", { id: "map-title" }, "Allocation map"),
      h("div", { class: "canvas" }, this.canvas),
      this.detail,
      warningList(picture.warnings),
      this.legendTable(),
    );
    this.moveTo(-1);
    this.resize = new ResizeObserver(this.redraw);
    this.resize.observe(this.canvas.parentElement!);
    this.scheme.addEventListener("change", this.redraw);
  }

  /** Stops watching the window. */
  close(): void {
    this.resize.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
  }

  private name(role: PictureRole): string {
    return (this.picture.basis === "map" ? MAP_NAMES[role] : undefined) ?? NAMES[role];
  }

  private describe(): string {
    const { roles, totals, units } = this.picture;
    const parts = roles
      .map((role, r) => ({ role, share: units > 0 ? totals[r] / units : 0 }))
      .filter((p) => p.share > 0)
      .sort((a, b) => b.share - a.share)
      .map((p) => `${this.name(p.role)} ${percent(p.share)}`);
    return `Allocation map. ${parts.join(", ")}. Use the arrow keys to look at single cells.`;
  }

  private legendTable(): HTMLElement {
    const { roles, totals, unit, units, basis } = this.picture;
    const used = units - totals[roles.length - 1];
    const row = (role: PictureRole, n: number) => {
      const button = h(
        "button",
        {
          type: "button",
          "aria-pressed": "false",
          title: "Show only these",
          click: () => this.highlight(role),
        },
        h("span", { class: "swatch", "data-role": role }),
        this.name(role),
      );
      this.legend.set(role, button);
      return h(
        "tr",
        { "data-role": role, "data-units": String(n) },
        h("th", { scope: "row" }, button),
        basis === "filesystem" ? h("td", { class: "number" }, count(n)) : null,
        h("td", { class: "number" }, bytes(n * unit)),
        h("td", { class: "number" }, percent(units > 0 ? n / units : 0)),
      );
    };
    const heads = basis === "filesystem" ? ["Blocks", "Size", "Share"] : ["Size", "Share"];
    return h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "legend" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "What"),
            ...heads.map((t) => h("th", { scope: "col", class: "number" }, t)),
          ),
        ),
        h("tbody", {}, ...roles.map((role, r) => (totals[r] > 0 ? row(role, totals[r]) : null))),
        h(
          "tfoot",
          {},
          h(
            "tr",
            { "data-role": "used", "data-units": String(used) },
            h("th", { scope: "row" }, basis === "filesystem" ? "In use" : "Stored in all"),
            basis === "filesystem" ? h("td", { class: "number" }, count(used)) : null,
            h("td", { class: "number" }, bytes(used * unit)),
            h("td", { class: "number" }, percent(units > 0 ? used / units : 0)),
          ),
        ),
      ),
    );
  }

  private highlight(role: PictureRole): void {
    this.only = this.only === role ? null : role;
    for (const [r, button] of this.legend) button.setAttribute("aria-pressed", String(this.only === r));
    this.draw();
  }

  /** Lays the cells out for the width there is and paints them. */
  private draw(): void {
    const { cells } = this.picture;
    const width = this.canvas.parentElement?.clientWidth ?? 0;
    if (width === 0) return;
    this.layOut(width);
    const rows = Math.ceil(cells / this.columns);
    const scale = Math.max(1, window.devicePixelRatio || 1);
    const w = this.columns * this.pitch;
    const height = rows * this.pitch;
    this.canvas.width = Math.round(w * scale);
    this.canvas.height = Math.round(height * scale);
    this.canvas.style.width = `${w}px`;
    this.canvas.style.height = `${height}px`;
    const context = this.canvas.getContext("2d");
    if (context === null) return;
    context.scale(scale, scale);
    const style = getComputedStyle(this.canvas);
    const colours = this.picture.roles.map((role) =>
      style.getPropertyValue(`--role-${role.replace(" ", "-")}`).trim(),
    );
    for (let cell = 0; cell < cells; cell++) this.paint(context, cell, colours);
    if (this.cursor >= 0) {
      context.strokeStyle = style.getPropertyValue("--text");
      context.lineWidth = 2;
      const x = (this.cursor % this.columns) * this.pitch;
      const y = Math.floor(this.cursor / this.columns) * this.pitch;
      context.strokeRect(x, y, this.pitch - 1, this.pitch - 1);
    }
  }

  private layOut(width: number): void {
    const { cells } = this.picture;
    const tallest = Math.min(560, Math.max(280, width * 0.62));
    this.pitch = 16;
    for (;;) {
      this.columns = Math.max(1, Math.min(cells, Math.floor(width / this.pitch)));
      if (this.pitch <= 5 || Math.ceil(cells / this.columns) * this.pitch <= tallest) return;
      this.pitch--;
    }
  }

  /** One cell: the colours of its roles stacked from the bottom, metadata never thinner than a pixel. */
  private paint(context: CanvasRenderingContext2D, cell: number, colours: readonly string[]): void {
    const { roles, counts, units, cells } = this.picture;
    const n = roles.length;
    const size = cellStart(units, cells, cell + 1) - cellStart(units, cells, cell);
    const side = this.pitch - 1;
    const x = (cell % this.columns) * this.pitch;
    const y = Math.floor(cell / this.columns) * this.pitch;
    context.fillStyle = colours[n - 1];
    context.fillRect(x, y, side, side);
    let bottom = side;
    for (let r = n - 2; r >= 0; r--) {
      const units = counts[cell * n + r];
      if (units <= 0 || (this.only !== null && this.only !== roles[r])) continue;
      const height = Math.min(bottom, Math.max(1, Math.round((units / size) * side)));
      context.fillStyle = colours[r];
      context.fillRect(x, y + bottom - height, side, height);
      bottom -= height;
    }
    if (this.only === "free" && counts[cell * n + n - 1] > 0) {
      context.fillStyle = colours[roles.indexOf("data")];
      const height = Math.max(1, Math.round((counts[cell * n + n - 1] / size) * side));
      context.fillRect(x, y, side, height);
    }
  }

  private point(e: PointerEvent): void {
    const column = Math.floor(e.offsetX / this.pitch);
    const cell = Math.floor(e.offsetY / this.pitch) * this.columns + column;
    this.moveTo(column >= 0 && column < this.columns && cell < this.picture.cells ? cell : -1);
  }

  private key(e: KeyboardEvent): void {
    const steps: Record<string, number> = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -this.columns,
      ArrowDown: this.columns,
      Home: Number.NEGATIVE_INFINITY,
      End: Number.POSITIVE_INFINITY,
    };
    const step = steps[e.key];
    if (step === undefined) return;
    e.preventDefault();
    const to = this.cursor < 0 ? 0 : this.cursor + step;
    this.moveTo(Math.max(0, Math.min(this.picture.cells - 1, to)));
  }

  private moveTo(cell: number): void {
    if (cell === this.cursor && this.detail.textContent !== "") return;
    this.cursor = cell;
    this.detail.textContent = cell < 0 ? this.scaleText() : this.cellText(cell);
    this.draw();
  }

  private scaleText(): string {
    const { units, cells, unit, basis } = this.picture;
    const each = Math.max(1, Math.round(units / cells));
    const size = bytes(each * unit);
    return basis === "map"
      ? `A cell is ${size}. No filesystem is read here: the map shows what the container stores.`
      : `A cell is ${count(each)} ${each === 1 ? "block" : "blocks"} (${size}).`;
  }

  private cellText(cell: number): string {
    const { roles, counts, units, cells, unit, basis } = this.picture;
    const from = cellStart(units, cells, cell);
    const to = cellStart(units, cells, cell + 1);
    const what = roles
      .map((role, r) => ({ role, share: counts[cell * roles.length + r] / (to - from) }))
      .filter((p) => p.share > 0)
      .sort((a, b) => b.share - a.share)
      .map((p) => `${this.name(p.role).toLowerCase()} ${percent(p.share)}`)
      .join(", ");
    const where =
      basis === "map"
        ? `Bytes ${bytes(from * unit)} to ${bytes(to * unit)}`
        : to - from === 1
          ? `Block ${count(from)}`
          : `Blocks ${count(from)}–${count(to - 1)}`;
    return `${where}: ${what}`;
  }
}
