/** Image formats that are told apart by their first bytes but not read here. */
const OTHERS: readonly (readonly [name: string, at: number, magic: string])[] = [
  ["qcow", 0, "QFI\xfb\0\0\0\x01"],
  ["vmdk", 0, "KDMV"],
  ["vmdk", 0, "COWD"],
  ["vmdk", 0, "# Disk DescriptorFile"],
  ["vhdx", 0, "vhdxfile"],
  ["vpc", 0, "conectix"],
  ["vdi", 0x40, "\x7f\x10\xda\xbe"],
  ["qed", 0, "QED\0"],
  ["luks", 0, "LUKS\xba\xbe"],
  ["parallels", 0, "WithoutFreeSpace"],
  ["parallels", 0, "WithouFreSpacExt"],
  ["bochs", 0, "Bochs Virtual HD Image"],
  ["cloop", 0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"],
];

/** Names that `-f` takes in the native tool, and that are refused here by name. */
export const OTHER_FORMATS: ReadonlySet<string> = new Set([...OTHERS.map(([name]) => name), "dmg", "vvfat"]);

const QCOW2 = "QFI\xfb";

/**
 * The format that a file's first bytes stand for: "qcow2", "raw" where nothing is known, or the name of one that is not
 * read here. `head`: the first 512 bytes, zeros past the file's end. As qemu 7.2 decides.
 */
export function probeFormat(head: Uint8Array, path: string): string {
  const is = (at: number, magic: string): boolean => {
    for (let i = 0; i < magic.length; i++) if (head[at + i] !== magic.charCodeAt(i)) return false;
    return true;
  };
  if (is(0, QCOW2) && (head[4] | head[5] | head[6]) + head[7] >= 2) return "qcow2";
  for (const [name, at, magic] of OTHERS) if (is(at, magic)) return name;
  return path.endsWith(".dmg") ? "dmg" : "raw";
}
