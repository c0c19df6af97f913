/**
 * Does work of `length` bytes piece by piece, synchronously as long as the pieces answer so. `piece` gets the number of
 * bytes done and answers with how many more are done then; 0 to be called again (after a wait). Answers with `length`.
 */
export function inPieces(
  length: number,
  piece: (done: number) => number | Promise<number>,
): number | Promise<number> {
  for (let done = 0; done < length; ) {
    const r = piece(done);
    if (typeof r !== "number") return goOn(r, done, length, piece);
    done += r;
  }
  return length;
}

async function goOn(
  first: Promise<number>,
  done: number,
  length: number,
  piece: (done: number) => number | Promise<number>,
): Promise<number> {
  for (done += await first; done < length; ) {
    const r = piece(done);
    done += typeof r === "number" ? r : await r;
  }
  return length;
}
