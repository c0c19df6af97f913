import type { OutputFormat, Progress } from "../../src/engine/api.ts";
import type { AllocationPicture } from "../../src/engine/picture.ts";
import type { JobOutcome, JobRequest, OpenedView } from "../protocol.ts";
import { bytes, duration } from "../text.ts";
import { h } from "./dom.ts";
import { errorBox, warningList } from "./errors.ts";

/** How the panel gets things done. */
export interface SaveActions {
  /** Runs the job; answers with the outcome and a link to fetch the output again, or null when it was stopped. */
  save(job: JobRequest, choosePlace: boolean, progress: (p: Progress) => void): Promise<Saved | null>;
  cancel(): void;
  /** Whether the browser can stream to a file of the person's choice. */
  readonly canChoosePlace: boolean;
}

export interface Saved {
  readonly outcome: JobOutcome;
  readonly link: HTMLAnchorElement | null;
}

interface Choice<T extends string> {
  readonly value: T;
  readonly title: string;
  readonly text: string;
}

const SCOPES: readonly Choice<JobRequest["what"]>[] = [
  {
    value: "used",
    title: "Used blocks",
    text: "Everything the filesystem has in use; free space reads as zeros.",
  },
  {
    value: "metadata",
    title: "Metadata only",
    text: "The structure without file contents, for analysis and bug reports.",
  },
  { value: "all", title: "All blocks", text: "The whole volume, what lies in free space included." },
];
const CONVERT: Choice<JobRequest["what"]> = {
  value: "convert",
  title: "Convert the disk",
  text: "The whole disk of this container in another format.",
};
const FORMATS: readonly Choice<OutputFormat>[] = [
  { value: "qcow2", title: "QCOW2", text: "Compact; opens in QEMU and virtual machines." },
  { value: "raw", title: "Raw", text: "Byte for byte, as on a device." },
];
/** Milliseconds of progress the rate is taken over. */
const RATE_WINDOW = 4000;

/** The panel that captures or converts. */
export class SaveView {
  readonly element: HTMLElement;
  private readonly form: HTMLFormElement;
  private readonly status: HTMLElement;
  private readonly estimates = new Map<string, HTMLElement>();
  private readonly actions: SaveActions;
  private readonly view: OpenedView;
  private readonly fileName: string;
  private readonly layout: HTMLElement;
  private readonly start: HTMLButtonElement;

  constructor(view: OpenedView, fileName: string, actions: SaveActions) {
    this.view = view;
    this.fileName = fileName;
    this.actions = actions;
    const what = view.volume !== null ? [...SCOPES, CONVERT] : [CONVERT];
    this.status = h("div", { class: "status", id: "save-status" });
    this.layout = this.layoutField();
    this.start = h("button", { type: "submit", class: "primary", id: "save" }, "Save image");
    this.form = h(
      "form",
      { submit: (e) => this.submit(e), change: () => this.refresh() },
      this.choices("What to save", "what", what),
      this.choices("Format", "format", FORMATS),
      this.layout,
      actions.canChoosePlace ? placeField() : null,
      verifyField(),
      h("div", { class: "actions" }, this.start),
    );
    this.element = h(
      "section",
      { class: "card save", "aria-labelledby": "save-title" },
      h("h2", { id: "save-title" }, "Save a copy"),
      this.form,
      this.status,
    );
    this.estimate("all", view.sourceSize);
    this.estimate("convert", view.inspection.diskSize);
    this.refresh();
  }

  /** Sizes that only the map tells. */
  know(picture: AllocationPicture): void {
    if (picture.basis === "filesystem")
      this.estimate("used", (picture.units - picture.totals[picture.roles.length - 1]) * picture.unit);
  }

  private estimate(value: string, size: number): void {
    const element = this.estimates.get(value);
    if (element !== undefined) element.textContent = bytes(size);
  }

  private choices<T extends string>(
    legend: string,
    name: string,
    choices: readonly Choice<T>[],
  ): HTMLElement {
    return h(
      "fieldset",
      { class: "choices" },
      h("legend", {}, legend),
      ...choices.map((choice, i) => {
        const input = h("input", { type: "radio", name, value: choice.value, id: `${name}-${choice.value}` });
        input.checked = i === 0;
        const size = h("span", { class: "estimate" });
        this.estimates.set(choice.value, size);
        return h(
          "label",
          { class: "choice", for: `${name}-${choice.value}` },
          input,
          h(
            "span",
            { class: "choice-text" },
            h("span", { class: "choice-title" }, choice.title, size),
            h("small", {}, choice.text),
          ),
        );
      }),
    );
  }

  private layoutField(): HTMLElement {
    return h(
      "div",
      { class: "field", id: "layout-field" },
      h("label", { for: "layout" }, "Layout"),
      h(
        "select",
        { id: "layout", name: "layout" },
        h("option", { value: "" }, "Standard (version 3)"),
        h("option", { value: "v2" }, "Version 2, for old programs"),
        h("option", { value: "e2image" }, "As e2image -Q writes it"),
      ),
    );
  }

  private value(name: string): string {
    return String(new FormData(this.form).get(name) ?? "");
  }

  private refresh(): void {
    this.layout.hidden = this.value("format") !== "qcow2";
    const e2image = this.layout.querySelector<HTMLOptionElement>("option[value=e2image]");
    if (e2image === null) return;
    e2image.disabled =
      this.view.volume?.startsWith("ext") !== true || !["used", "metadata"].includes(this.value("what"));
    if (e2image.disabled && e2image.selected) e2image.selected = false;
  }

  private job(): JobRequest {
    const what = this.value("what") as JobRequest["what"];
    const format = this.value("format") as OutputFormat;
    const layout = format === "qcow2" ? this.value("layout") : "";
    return {
      what,
      format,
      qcow2: layout === "e2image" ? { layout } : layout === "v2" ? { version: 2 } : undefined,
      verify: this.value("verify") === "yes",
      name: outputName(this.fileName, what, format, this.view.partition),
    };
  }

  private submit(e: Event): void {
    e.preventDefault();
    const job = this.job();
    void this.run(job, this.value("place") === "choose");
  }

  private async run(job: JobRequest, choosePlace: boolean): Promise<void> {
    this.start.disabled = true;
    const progress = new ProgressView(job.name, () => this.actions.cancel());
    this.status.replaceChildren();
    try {
      const saved = await this.actions.save(job, choosePlace, (p) => {
        if (!progress.element.isConnected) this.status.replaceChildren(progress.element);
        progress.update(p);
      });
      this.status.replaceChildren(...(saved === null ? [] : [outcomeView(job, saved)]));
    } catch (error) {
      this.status.replaceChildren(errorBox(error));
    } finally {
      this.start.disabled = false;
    }
  }
}

function placeField(): HTMLElement {
  return h(
    "div",
    { class: "field" },
    h("label", { for: "place" }, "Save to"),
    h(
      "select",
      { id: "place", name: "place" },
      h("option", { value: "choose" }, "A file I choose"),
      h("option", { value: "download" }, "Downloads"),
    ),
  );
}

function verifyField(): HTMLElement {
  return h(
    "label",
    { class: "choice", for: "verify" },
    h("input", { type: "checkbox", id: "verify", name: "verify", value: "yes" }),
    h(
      "span",
      { class: "choice-text" },
      h("span", { class: "choice-title" }, "Verify"),
      h("small", {}, "Reads back what was written and compares it with the source."),
    ),
  );
}

/** What a verification says, and what it cannot. */
function verdict({ output, result }: JobOutcome): string {
  if (!result.verified) return "";
  return output === null
    ? " Verified: read back from the file and compared with the source."
    : " Verified: read back and compared with the source, before the browser copied it to the downloads; that copy " +
        "the page cannot read.";
}

function outcomeView(job: JobRequest, { outcome, link }: Saved): HTMLElement {
  const { result, milliseconds } = outcome;
  const seconds = milliseconds / 1000;
  const rate = seconds > 0.05 ? `, ${bytes(result.written / seconds)}/s` : "";
  return h(
    "div",
    { class: "done", role: "status", id: "saved" },
    h("strong", {}, "Saved "),
    h("span", { class: "file-name" }, job.name),
    h(
      "p",
      {},
      `${bytes(result.outputSize)} for a disk of ${bytes(result.guestSize)}; ` +
        `${bytes(result.written)} of data in ${seconds < 10 ? `${seconds.toFixed(1)} s` : duration(seconds)}${rate}.${verdict(outcome)}`,
    ),
    warningList(result.warnings),
    link,
  );
}

/** A bar with rate and time left. */
class ProgressView {
  readonly element: HTMLElement;
  private readonly bar = h("progress", { max: "1", "aria-label": "Progress" });
  private readonly text = h("p", { class: "quiet" });
  private readonly doing = h("span", {}, "Writing ");
  private readonly samples: { time: number; done: number }[] = [];
  private phase = "";

  constructor(name: string, cancel: () => void) {
    this.element = h(
      "div",
      { class: "progress" },
      h("p", {}, this.doing, h("span", { class: "file-name" }, name)),
      h(
        "div",
        { class: "bar" },
        this.bar,
        h("button", { type: "button", id: "cancel", click: cancel }, "Cancel"),
      ),
      this.text,
    );
  }

  update({ phase, done, total }: Progress): void {
    if (phase !== this.phase) {
      this.phase = phase;
      this.samples.length = 0;
      this.doing.textContent = phase === "verify" ? "Verifying " : "Writing ";
    }
    if (phase === "scan") {
      this.bar.removeAttribute("value");
      this.text.textContent = "Reading the filesystem…";
      return;
    }
    const now = performance.now();
    this.samples.push({ time: now, done });
    while (this.samples.length > 2 && now - this.samples[0].time > RATE_WINDOW) this.samples.shift();
    const first = this.samples[0];
    const rate = now > first.time ? ((done - first.done) / (now - first.time)) * 1000 : 0;
    this.bar.value = total > 0 ? done / total : 1;
    const left = rate > 0 ? `, ${bytes(rate)}/s, ${duration((total - done) / rate)} left` : "";
    this.text.textContent = `${bytes(done)} of ${bytes(total)}${left}`;
  }
}

/** A name for the output that is not the input's. */
export function outputName(
  input: string,
  what: JobRequest["what"],
  format: OutputFormat,
  partition: number | null,
): string {
  const base = input.replace(/\.(qcow2?|raw|img|image|ext[234]|bin|dd|iso)$/i, "") || "image";
  const part = partition !== null && what !== "convert" ? `-p${partition}` : "";
  const scope = what === "metadata" ? ".metadata" : "";
  const end = format === "qcow2" ? ".qcow2" : ".img";
  const name = `${base}${part}${scope}${end}`;
  return name === input ? `${base}-copy${end}` : name;
}
