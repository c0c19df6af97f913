/**
 * Where MBR and GPT keep what. Sources: UEFI specification chapter 5; the PC boot sector's common layout.
 * Little-endian.
 */

export const MBR = {
  entries: 446,
  entrySize: 16,
  signature: 510,
} as const;
export const MBR_SIGNATURE = 0xaa55;

/** Offsets in one MBR entry. */
export const MBR_ENTRY = { status: 0, type: 4, start: 8, sectors: 12 } as const;

export const TYPE_EMPTY = 0;
export const TYPE_PROTECTIVE = 0xee;
export const TYPES_EXTENDED: readonly number[] = [0x05, 0x0f, 0x85];

export const MBR_TYPES: Readonly<Record<number, string>> = {
  1: "FAT12",
  4: "FAT16 (small)",
  6: "FAT16",
  7: "NTFS or exFAT",
  11: "FAT32",
  12: "FAT32 (LBA)",
  14: "FAT16 (LBA)",
  39: "Windows recovery",
  130: "Linux swap",
  131: "Linux filesystem",
  142: "Linux LVM",
  165: "FreeBSD",
  166: "OpenBSD",
  169: "NetBSD",
  175: "Apple HFS",
  238: "GPT protective",
  239: "EFI system",
  253: "Linux RAID",
};

/** Offsets in the GPT header. */
export const GPT = {
  signature: 0,
  headerSize: 12,
  headerCrc: 16,
  ownLba: 24,
  otherLba: 32,
  entriesLba: 72,
  entryCount: 80,
  entrySize: 84,
  entriesCrc: 88,
} as const;
export const GPT_SIGNATURE = "EFI PART";
export const GPT_HEADER_MIN = 92;

/** Offsets in one GPT entry. */
export const GPT_ENTRY = { type: 0, first: 32, last: 40, name: 56, nameUnits: 36 } as const;

export const GPT_TYPES: Readonly<Record<string, string>> = {
  "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
  "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
  "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux filesystem",
  "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
  "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
  "a19d880f-05fc-4d3b-a006-743f0f84911e": "Linux RAID",
  "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
  "b921b045-1df0-41c3-af44-4c6f280d3fae": "Linux root (ARM64)",
  "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "Linux home",
  "3b8f8425-20e0-4f3b-907f-1a25a76f98e8": "Linux server data",
  "bc13c2ff-59e6-4262-a352-b275fd6f7172": "Linux extended boot",
  "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Microsoft basic data",
  "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
  "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
  "48465300-0000-11aa-aa11-00306543ecac": "Apple HFS+",
  "7c3457ef-0000-11aa-aa11-00306543ecac": "Apple APFS",
};
