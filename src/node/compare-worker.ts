import { parentPort } from "node:worker_threads";
import { SharedPieces, Slots } from "./shared-pieces.ts";

// A helper thread of a comparison: takes pieces of the lists it is sent, in turn with the main thread.

const slots = new Slots();

parentPort!.on("message", (buffer: SharedArrayBuffer) => {
  const pieces = SharedPieces.in(buffer);
  if (!pieces.join()) return;
  try {
    pieces.work(slots, () => false);
  } finally {
    pieces.leave();
  }
});
