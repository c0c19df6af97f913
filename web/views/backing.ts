import type { GateRequest } from "../../src/io/gate.ts";
import { byId } from "./dom.ts";

/** Asks for a file that an image names; null when the person declines. One question at a time. */
export function askForFile(request: GateRequest): Promise<File | null> {
  const dialog = byId("backing", HTMLDialogElement);
  const input = byId("backing-file", HTMLInputElement);
  const open = byId("backing-open", HTMLButtonElement);
  byId("backing-text", HTMLParagraphElement).textContent =
    `“${request.from}” holds only what differs from its ${request.purpose}` +
    `${request.format === null ? "" : ` (${request.format})`}. Choose that file to go on:`;
  byId("backing-name", HTMLElement).textContent = request.name;
  input.value = "";
  open.disabled = true;
  input.onchange = () => {
    open.disabled = input.files?.length !== 1;
  };
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "open" ? (input.files?.[0] ?? null) : null);
  });
}
