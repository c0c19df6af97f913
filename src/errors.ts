/**
 * Every error Imprint throws on purpose. Each carries a stable `code`, and, where an image is to blame,
 * the structure that is wrong and its byte offset, so that a message reads
 * "ext extent header at 0x4321000: 400 entries, room for 340".
 */

/** Base class: `code` is stable and machine-readable; `message` is one line for a person. */
export class ImprintError extends Error {
  readonly code: string;
  /** What the format's native tool says of the same fault, where a drop-in command needs its words. */
  native?: string;
  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** An image or volume that breaks its own format. */
export class FormatError extends ImprintError {
  /** The on-disk structure that is wrong, e.g. "ext extent header". */
  readonly structure: string;
  /** Byte offset of that structure in its source, or -1 where it has none. */
  readonly offset: number;
  constructor(structure: string, offset: number, detail: string, code = "EFORMAT") {
    super(
      code,
      offset >= 0 ? `${structure} at 0x${offset.toString(16)}: ${detail}` : `${structure}: ${detail}`,
    );
    this.structure = structure;
    this.offset = offset;
  }
}

/** Gives an error the words that the native tool has for it. */
export function withNative<T extends ImprintError>(error: T, native: string): T {
  error.native = native;
  return error;
}

/** A feature that exists in the format but that this build cannot handle; named, never guessed around. */
export class UnsupportedError extends ImprintError {
  constructor(message: string, code = "EUNSUPPORTED") {
    super(code, message);
  }
}

/** A read or write that the host refused or cut short. `offset` in bytes. */
export class IoError extends ImprintError {
  readonly offset: number;
  constructor(code: string, message: string, offset = -1, cause?: unknown) {
    super(code, message, { cause });
    this.offset = offset;
  }
}

/** A safety refusal: mounted target, source as target, too small, not empty, file named by an image. */
export class RefusedError extends ImprintError {
  constructor(code: string, message: string) {
    super(code, message);
  }
}

/** The person or the caller asked to stop. */
export class AbortError extends ImprintError {
  constructor(message = "interrupted") {
    super("EABORT", message);
  }
}

/** A read of the source that failed or fell short: the kind of error a tolerant job may step over. */
export class ReadError extends IoError {}
