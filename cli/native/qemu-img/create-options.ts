import { ImprintError } from "../../../src/errors.ts";
import {
  checkCreateOptions,
  type Preallocation,
  type Qcow2CreateOptions,
} from "../../../src/image/qcow2/create/options.ts";
import { QemuError } from "./errors.ts";
import { type OptionDef, type OptionValue, optionsHelp, parseOptionList } from "./keyval.ts";
import { secrets } from "./options.ts";
import { OTHER_FORMATS } from "./probe.ts";

/** What -o said, by name; see `readCreateOptions`. */
export type CreateValues = Map<string, OptionValue>;

/** "file": what "raw" makes, under the name of the protocol. */
export type CreateFormat = "qcow2" | "raw" | "file";

/** A raw image to be made. Sizes in bytes. */
export interface RawCreateOptions {
  readonly size: number;
  readonly preallocation: Exclude<Preallocation, "metadata">;
}

type Def = OptionDef & { readonly default?: string };
const def = (name: string, type: OptionDef["type"], help: string, value?: string): Def => ({
  name,
  type,
  help,
  ...(value === undefined ? {} : { default: value }),
});

const SIZE = def("size", "size", "Virtual disk size");

/** Options of a QCOW2 image, in the order in which native prints them. */
const QCOW2: readonly Def[] = [
  def(
    "encryption",
    "bool",
    "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
  ),
  def("encrypt.format", "string", "Encrypt the image, format choices: 'aes', 'luks'"),
  def("encrypt.key-secret", "string", "ID of secret providing qcow AES key or LUKS passphrase"),
  def("encrypt.cipher-alg", "string", "Name of encryption cipher algorithm"),
  def("encrypt.cipher-mode", "string", "Name of encryption cipher mode"),
  def("encrypt.ivgen-alg", "string", "Name of IV generator algorithm"),
  def("encrypt.ivgen-hash-alg", "string", "Name of IV generator hash algorithm"),
  def("encrypt.hash-alg", "string", "Name of encryption hash algorithm"),
  def("encrypt.iter-time", "number", "Time to spend in PBKDF in milliseconds"),
  def("cluster_size", "size", "qcow2 cluster size", "65536"),
  def("extended_l2", "bool", "Extended L2 tables", "off"),
  def("preallocation", "string", "Preallocation mode (allowed values: off, metadata, falloc, full)"),
  def("compression_type", "string", "Compression method used for image cluster compression", "zlib"),
  SIZE,
  def("compat", "string", "Compatibility level (v2 [0.10] or v3 [1.1])"),
  def("backing_file", "string", "File name of a base image"),
  def("backing_fmt", "string", "Image format of the base image"),
  def("data_file", "string", "File name of an external data file"),
  def("data_file_raw", "bool", "The external data file must stay valid as a raw image"),
  def("lazy_refcounts", "bool", "Postpone refcount updates", "off"),
  def("refcount_bits", "number", "Width of a reference count entry in bits", "16"),
];

const RAW: readonly Def[] = [SIZE];

/** Options of the file below the image. */
const FILE: readonly Def[] = [
  def("preallocation", "string", "Preallocation mode (allowed values: off, falloc, full)"),
  def("nocow", "bool", "Turn off copy-on-write (valid only on btrfs)"),
  def("extent_size_hint", "size", "Extent size hint for the image file, 0 to disable"),
];

/** Formats that the native tool makes and this one does not. */
const NOT_MADE = new Set(["qcow", "qed", "vmdk", "vdi", "vhdx", "vpc", "luks", "parallels"]);

/** Drivers of the native tool, as names of a backing format that is only noted. */
const DRIVERS = new Set(
  (
    "blkdebug blklogwrites blkreplay blkverify bochs cloop compress copy-before-write copy-on-read dmg file " +
    "snapshot-access ftp ftps gluster host_cdrom host_device http https iscsi luks nbd nfs null-aio null-co nvme " +
    "parallels preallocate qcow qcow2 qed quorum raw rbd replication ssh throttle vdi vhdx vmdk vpc vvfat"
  ).split(" "),
);

/**
 * A format that can be made. Throws QemuError with native's texts after `prefix` ("FILE: " where
 * native names the file).
 */
export function createFormat(name: string, prefix = ""): CreateFormat {
  if (name === "qcow2" || name === "raw" || name === "file") return name;
  if (NOT_MADE.has(name))
    throw new QemuError(`${prefix}image format '${name}' is not supported by this tool`);
  if (OTHER_FORMATS.has(name) || DRIVERS.has(name))
    throw new QemuError(`${prefix}Format driver '${name}' does not support image creation`);
  throw new QemuError(`${prefix}Unknown file format '${name}'`);
}

/** Options of a format and of the file below it; the format's go first. */
function definitions(format: CreateFormat, withFile: boolean): readonly Def[] {
  const own = format === "qcow2" ? QCOW2 : RAW;
  if (format === "file") withFile = true;
  return withFile ? [...own, ...FILE.filter((f) => !own.some((o) => o.name === f.name))] : own;
}

/** What `-o help` prints; `withFile`: a file name was given too. */
export function createOptionsHelp(format: CreateFormat, withFile: boolean): string {
  const title = withFile ? "Supported options:" : `Supported ${format} options:`;
  const more =
    "\nThe protocol level may support further options.\n" +
    "Specify the target filename to include those options.\n";
  return optionsHelp(title, definitions(format, withFile)) + (withFile ? "" : more);
}

/** Reads the text of all -o (or null). Throws QemuError with native's texts after `prefix`. */
export function readCreateOptions(format: CreateFormat, text: string | null, prefix = ""): CreateValues {
  return parseOptionList(text ?? "", definitions(format, true), prefix);
}

/** Whether all that -o says are options of a new QCOW2 image (not of the file below it), with values that they take. */
export function isQcow2Options(text: string): boolean {
  try {
    parseOptionList(text, QCOW2);
    return true;
  } catch (error) {
    if (error instanceof QemuError) return false;
    throw error;
  }
}

/** Sets a string option that has an option letter of its own (-b, -F). */
export function setText(values: CreateValues, name: string, value: string): void {
  values.set(name, { type: "string", value, text: value });
}

/** Sets the size, bytes. */
export function setSize(values: CreateValues, size: bigint): void {
  values.set("size", { type: "size", value: size, text: String(size) });
}

/** The text of a string option, or null. */
export function textOf(values: CreateValues, name: string): string | null {
  return values.get(name)?.text ?? null;
}

/** The size that was given, bytes, or null. */
export function sizeOf(values: CreateValues): bigint | null {
  const size = values.get("size");
  return size === undefined ? null : (size.value as bigint);
}

/**
 * `Formatting 'F', fmt=qcow2 cluster_size=65536 ...` and a newline: what was said and the defaults, in native's order.
 */
export function formattingLine(name: string, format: CreateFormat, values: CreateValues): string {
  const order = definitions(format, true);
  const shown: string[] = [];
  for (const d of order) {
    const given = values.get(d.name);
    if (given === undefined && d.default === undefined) continue;
    const text =
      given === undefined
        ? d.default!
        : given.type === "string"
          ? given.text.replaceAll(",", ",,")
          : given.type === "bool"
            ? given.text
            : String(BigInt.asIntN(64, given.value));
    shown.push(`${d.name}=${text}`);
  }
  return `Formatting '${name}', fmt=${format} ${shown.join(" ")}\n`;
}

/**
 * What the values of a QCOW2 image say, for a disk of `size` bytes. Everything is checked, in native's order: QemuError
 * with native's texts after `prefix`. Encryption is refused.
 */
export function qcow2Options(values: CreateValues, size: number, prefix = ""): Qcow2CreateOptions {
  const fail = (text: string): never => {
    throw new QemuError(prefix + text);
  };
  const on = (name: string): boolean => values.get(name)?.value === true;
  const choice = <T>(name: string, shown: string, known: Readonly<Record<string, T>>, otherwise: T): T => {
    const text = textOf(values, name);
    if (text === null) return otherwise;
    if (!Object.hasOwn(known, text)) return fail(`Parameter '${shown}' does not accept value '${text}'`);
    return known[text];
  };
  const format = encryption(values, fail);
  const version = choice("compat", "version", { "0.10": 2, "1.1": 3, v2: 2, v3: 3 } as const, 3);
  const backingFormat = textOf(values, "backing_fmt");
  if (backingFormat !== null && !DRIVERS.has(backingFormat))
    fail(`Parameter 'backing-fmt' does not accept value '${backingFormat}'`);
  if (format !== null) refuseEncryption(format, values, fail);
  const preallocation = choice("preallocation", "preallocation", PREALLOCATION, "off");
  const compressionType = choice("compression_type", "compression-type", { zlib: 0, zstd: 1 } as const, 0);
  const options: Qcow2CreateOptions = {
    size,
    version,
    clusterSize: Number(values.get("cluster_size")?.value ?? 65536n),
    refcountBits: Number(values.get("refcount_bits")?.value ?? 16n),
    compressionType,
    extendedL2: on("extended_l2"),
    lazyRefcounts: on("lazy_refcounts"),
    dataFile: textOf(values, "data_file"),
    rawDataFile: on("data_file_raw"),
    preallocation,
    backingFile: textOf(values, "backing_file"),
    backingFormat,
  };
  try {
    checkCreateOptions(options);
  } catch (error) {
    if (error instanceof ImprintError) fail(error.message);
    throw error;
  }
  return options;
}

const PREALLOCATION = { off: "off", metadata: "metadata", falloc: "falloc", full: "full" } as const;

/** The encryption format that was asked for, or null. */
function encryption(values: CreateValues, fail: (text: string) => never): string | null {
  const alias = values.get("encryption");
  const format = textOf(values, "encrypt.format");
  if (alias?.value === true && format !== null)
    fail("'encrypt.format' and its alias 'encryption' can't be used at the same time");
  if (alias?.value === true) return "aes";
  return format ?? ([...values.keys()].some((name) => name.startsWith("encrypt.")) ? NO_FORMAT : null);
}

/** Encryption options without a format. */
const NO_FORMAT = "\0";

function refuseEncryption(format: string, values: CreateValues, fail: (text: string) => never): never {
  if (format === NO_FORMAT) fail("Parameter 'encrypt.format' is missing");
  if (format !== "aes" && format !== "luks") fail(`Parameter 'format' does not accept value '${format}'`);
  return refuseKey(values, fail);
}

/** Refuses to encrypt, with native's text where the key is not there. */
export function refuseKey(values: CreateValues, fail: (text: string) => never): never {
  const secret = textOf(values, "encrypt.key-secret");
  if (secret === null) return fail("Parameter 'encrypt.key-secret' is required for cipher");
  if (!secrets.has(secret)) fail(`No secret with id '${secret}'`);
  return fail("encrypted images cannot be made by this tool");
}

/** The longest disk that native can name, bytes. */
const LONGEST = 0x7fffffffc0000000n;

/** What native says of a disk of `size` bytes (all 64 bits) that no image can have, or null. */
export function lengthTrouble(size: bigint): string | null {
  if (size >= 1n << 63n) return "Image size cannot be negative";
  return size > LONGEST ? `offset(${size}) exceeds maximum(${LONGEST})` : null;
}

/** What the values of a raw image say. Throws QemuError with native's texts after `prefix`. */
export function rawOptions(values: CreateValues, size: number, prefix = ""): RawCreateOptions {
  const text = textOf(values, "preallocation") ?? "off";
  if (text === "metadata") throw new QemuError(`${prefix}Unsupported preallocation mode: metadata`);
  if (text !== "off" && text !== "falloc" && text !== "full")
    throw new QemuError(`${prefix}invalid parameter value: ${text}`);
  return { size, preallocation: text };
}

/** A name that an image holds, as a path: beside the image unless it is absolute or names a protocol. */
export function besideImage(image: string, name: string): string {
  if (name.startsWith("/") || /^[^/]*:/.test(name)) return name;
  const path = image.startsWith("file:") ? image.slice("file:".length) : image;
  return path.slice(0, path.lastIndexOf("/") + 1) + name;
}

/** Whether a driver of the native tool has this name. */
export function isFormatName(name: string): boolean {
  return DRIVERS.has(name);
}
