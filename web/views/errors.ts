import { EngineError } from "../engine.ts";
import { count } from "../text.ts";
import { h } from "./dom.ts";

const TITLES: Readonly<Record<string, string>> = {
  FormatError: "This image is damaged",
  UnsupportedError: "Not supported",
  RefusedError: "Refused",
  IoError: "Reading or writing failed",
};

/** Warnings shown before the rest is counted. */
const MOST_WARNINGS = 8;

/** What was odd but survivable, or null where nothing was. */
export function warningList(warnings: readonly string[]): HTMLElement | null {
  if (warnings.length === 0) return null;
  const more = warnings.length - MOST_WARNINGS;
  return h(
    "div",
    { class: "warnings" },
    h("strong", {}, warnings.length === 1 ? "1 warning" : `${count(warnings.length)} warnings`),
    h(
      "ul",
      {},
      ...warnings.slice(0, MOST_WARNINGS).map((w) => h("li", {}, w)),
      more > 0 ? h("li", {}, `and ${count(more)} more`) : null,
    ),
  );
}

/** A box that says what went wrong, announced to screen readers. */
export function errorBox(error: unknown): HTMLElement {
  const kind = error instanceof EngineError ? error.kind : "";
  const code = error instanceof EngineError ? error.code : "";
  const message = error instanceof Error ? error.message : String(error);
  return h(
    "div",
    { class: "error", role: "alert", "data-code": code },
    h("strong", {}, TITLES[kind] ?? "Something went wrong"),
    h("p", {}, message),
  );
}
