import type { Progress } from "../src/engine/api.ts";
import type { GateRequest } from "../src/io/gate.ts";
import { clearOldDownloads, dropDownload, dropEmpty, hasPrivateFiles, offerDownload } from "./downloads.ts";
import { Engine, EngineError, STOPPED } from "./engine.ts";
import type { JobRequest, OpenedView, Sink } from "./protocol.ts";
import { bytes } from "./text.ts";
import { askForFile } from "./views/backing.ts";
import { byId, h } from "./views/dom.ts";
import { errorBox } from "./views/errors.ts";
import { CELLS, MapView } from "./views/map.ts";
import { type Saved, SaveView } from "./views/save.ts";
import { factsView, formatName, partitionsView } from "./views/summary.ts";

interface SavePicker {
  showSaveFilePicker?(options: { suggestedName: string }): Promise<FileSystemFileHandle>;
}
const picker = window as unknown as SavePicker;

/** One file, from being chosen to being replaced by another. */
class Session {
  readonly file: File;
  private readonly place: HTMLElement;
  /** Files given for names in images, so that a job does not ask again. */
  private readonly given = new Map<string, File>();
  private engine: Engine | null = null;
  private job: Engine | null = null;
  private map: MapView | null = null;

  constructor(file: File, place: HTMLElement) {
    this.file = file;
    this.place = place;
  }

  async show(partition: number | null): Promise<void> {
    this.close();
    const engine = new Engine({ gate: (request) => this.gate(request) });
    this.engine = engine;
    this.place.replaceChildren(
      waiting("Reading the image…", () => {
        engine.stop();
        this.place.replaceChildren(note("Stopped."));
      }),
    );
    try {
      const view = await engine.call("open", { file: this.file, format: "auto", partition });
      if (this.engine === engine) await this.render(view, engine);
    } catch (error) {
      if (isStop(error)) return;
      const back = h("button", { type: "button", click: () => void this.show(null) }, "Back to the disk");
      this.place.replaceChildren(errorBox(error), ...(partition === null ? [] : [h("div", {}, back)]));
    }
  }

  /** Whether leaving now would lose work. */
  get busy(): boolean {
    return this.job !== null;
  }

  close(): void {
    this.engine?.stop();
    this.job?.stop();
    this.map?.close();
    this.map = null;
  }

  private async render(view: OpenedView, engine: Engine): Promise<void> {
    const save = new SaveView(view, this.file.name, {
      canChoosePlace: picker.showSaveFilePicker !== undefined,
      save: (job, choose, progress) => this.save(view, job, choose, progress),
      cancel: () => this.job?.stop(),
    });
    const mapPlace = h(
      "div",
      {},
      mapWaiting(() => engine.stop()),
    );
    this.place.replaceChildren(
      ...present(view.damage === null ? null : errorBox(new EngineError(view.damage))),
      ...present(partitionsView(view, (n) => void this.show(n))),
      h(
        "div",
        { class: "columns" },
        h("div", { class: "column wide" }, mapPlace, save.element),
        h("div", { class: "column" }, factsView(view)),
      ),
    );
    byId("container-badge", HTMLElement).textContent = formatName(view.inspection.format);
    try {
      const picture = await engine.call("picture", { cells: CELLS });
      this.map = new MapView(picture);
      mapPlace.replaceChildren(this.map.element);
      save.know(picture);
    } catch (error) {
      const what = isStop(error) ? note("The map was not drawn.") : errorBox(error);
      mapPlace.replaceChildren(h("section", { class: "card" }, h("h2", {}, "Allocation map"), what));
    }
  }

  /** Runs a job in a worker of its own, so that the page goes on and Cancel always works. */
  private async save(
    view: OpenedView,
    job: JobRequest,
    choose: boolean,
    progress: (p: Progress) => void,
  ): Promise<Saved | null> {
    const sink = await this.sink(job.name, choose);
    if (sink === null) return null;
    progress({ phase: "scan", done: 0, total: 0 });
    const engine = new Engine({ gate: (request) => this.gate(request), progress });
    this.job = engine;
    try {
      await engine.call("open", { file: this.file, format: "auto", partition: view.partition });
      const outcome = await engine.call("run", { job, sink });
      return { outcome, link: outcome.output === null ? null : offerDownload(outcome.output, job.name) };
    } catch (error) {
      if (sink.kind === "file") void dropEmpty(sink.handle);
      else if (sink.id !== null) void dropDownload(sink.id);
      if (isStop(error)) return null;
      throw error;
    } finally {
      engine.stop();
      if (this.job === engine) this.job = null;
    }
  }

  private async sink(name: string, choose: boolean): Promise<Sink | null> {
    if (!choose || picker.showSaveFilePicker === undefined)
      return { kind: "download", id: hasPrivateFiles() ? crypto.randomUUID() : null };
    try {
      return { kind: "file", handle: await picker.showSaveFilePicker({ suggestedName: name }) };
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") return null;
      throw error;
    }
  }

  private async gate(request: GateRequest): Promise<File | null> {
    const key = `${request.depth} ${request.from} ${request.name}`;
    const known = this.given.get(key);
    if (known !== undefined) return known;
    const file = await askForFile(request);
    if (file !== null) this.given.set(key, file);
    return file;
  }
}

function isStop(error: unknown): boolean {
  return error instanceof EngineError && error.code === STOPPED;
}

function present<T>(value: T | null): T[] {
  return value === null ? [] : [value];
}

function note(text: string): HTMLElement {
  return h("p", { class: "quiet", role: "status" }, text);
}

function waiting(text: string, stop: () => void): HTMLElement {
  return h(
    "div",
    { class: "waiting", role: "status" },
    h("span", { class: "spinner", "aria-hidden": "true" }),
    h("span", {}, text),
    h("button", { type: "button", click: stop }, "Cancel"),
  );
}

function mapWaiting(stop: () => void): HTMLElement {
  return h(
    "section",
    { class: "card map" },
    h("h2", {}, "Allocation map"),
    waiting("Reading the filesystem…", stop),
  );
}

let session: Session | null = null;

function open(file: File): void {
  session?.close();
  document.body.classList.add("opened");
  const name = byId("file-name", HTMLElement);
  name.textContent = file.name;
  name.title = file.name;
  byId("file-size", HTMLElement).textContent = bytes(file.size);
  byId("container-badge", HTMLElement).textContent = "";
  document.title = `${file.name} – Imprint`;
  session = new Session(file, byId("image", HTMLElement));
  void session.show(null);
}

function listen(): void {
  for (const input of document.querySelectorAll<HTMLInputElement>("input.open-file"))
    input.addEventListener("change", () => {
      const file = input.files?.[0];
      if (file !== undefined) open(file);
      input.value = "";
    });
  const over = (on: boolean) => document.body.classList.toggle("dragging", on);
  let depth = 0;
  addEventListener("dragenter", (e) => {
    e.preventDefault();
    depth++;
    over(true);
  });
  addEventListener("dragleave", () => over(--depth > 0));
  addEventListener("dragover", (e) => e.preventDefault());
  addEventListener("drop", (e) => {
    e.preventDefault();
    depth = 0;
    over(false);
    const file = e.dataTransfer?.files[0];
    if (file !== undefined) open(file);
  });
}

listen();
addEventListener("beforeunload", (e) => {
  if (session?.busy) e.preventDefault();
});
void clearOldDownloads().catch(() => {});
void navigator.serviceWorker?.register("./service-worker.js").catch(() => {});
