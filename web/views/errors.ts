import { EngineError } from "../engine.ts";
import { h } from "./dom.ts";

const TITLES: Readonly<Record<string, string>> = {
  FormatError: "This image is damaged",
  UnsupportedError: "Not supported",
  RefusedError: "Refused",
  IoError: "Reading or writing failed",
};

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
