import test from "ava";
import { parseBoot, probeNtfs } from "../../../../src/fs/ntfs/boot.ts";
import { NtfsError } from "../../../../src/fs/ntfs/errors.ts";

interface Facts {
  readonly sector?: number;
  readonly spc?: number;
  readonly sectors?: bigint;
  readonly mft?: bigint;
  readonly mirror?: bigint;
  readonly record?: number;
  readonly index?: number;
}

function boot(f: Facts): Buffer {
  const b = Buffer.alloc(512);
  b.write("NTFS    ", 3, "latin1");
  b.writeUInt16LE(f.sector ?? 512, 11);
  b[13] = f.spc ?? 8;
  b.writeBigInt64LE(f.sectors ?? 100000n, 40);
  b.writeBigInt64LE(f.mft ?? 4n, 48);
  b.writeBigInt64LE(f.mirror ?? 50n, 56);
  b[64] = f.record ?? 0xf6;
  b[68] = f.index ?? 1;
  b.writeBigUInt64LE(0xfedcba9876543210n, 72);
  return b;
}

test("geometry: sectors of 256 to 4096 bytes, clusters up to 2 MiB, records in bytes or clusters", (t) => {
  const cases: [Facts, [number, number, number, number]][] = [
    [{}, [4096, 12500, 1024, 4096]],
    [{ sector: 256, spc: 1, record: 4, index: 0xf4 }, [256, 100000, 1024, 4096]],
    [{ sector: 512, spc: 1 }, [512, 100000, 1024, 512]],
    [{ sector: 512, spc: 128 }, [65536, 781, 1024, 65536]],
    [{ sector: 512, spc: 0xf4 }, [2097152, 24, 1024, 2097152]],
    [{ sector: 4096, spc: 1, record: 1 }, [4096, 100000, 4096, 4096]],
    [{ sector: 1024, spc: 8, record: 0xf4, index: 0xf4 }, [8192, 12500, 4096, 4096]],
    [{ sectors: 99999n }, [4096, 12499, 1024, 4096]],
  ];
  for (const [facts, [cluster, clusters, record, index]] of cases) {
    const at = facts.spc === 0xf4 ? { ...facts, mirror: 10n } : facts;
    const b = parseBoot(boot(at));
    t.deepEqual(
      [b.clusterSize, b.clusters, b.recordSize, b.indexBlockSize],
      [cluster, clusters, record, index],
    );
    t.is(b.serial, 0xfedcba9876543210n);
  }
});

test("what native refuses", (t) => {
  const cases: [string, Facts | Buffer, RegExp][] = [
    ["a short sector", boot({}).subarray(0, 100), /^NTFS signature is missing/],
    ["zeros", Buffer.alloc(512), /^NTFS signature is missing/],
    ["128-byte sectors", { sector: 128 }, /^Unexpected bytes per sector value \(128\)/],
    ["three sectors a cluster", { spc: 3 }, /^Unexpected sectors per cluster value \(3\)/],
    ["code 0x90", { spc: 0x90 }, /^Unexpected sectors per cluster value \(code 0x90\)/],
    ["records of 3 clusters", { record: 3 }, /^Unexpected clusters per mft record \(3\)/],
    ["index blocks of 2^-8", { index: 0xf8 }, /^Unexpected clusters per index record \(-8\)/],
    ["no $MFT", { mft: 0n }, /^Invalid location/],
    ["one place for both", { mft: 50n }, /^Invalid location/],
    ["no sectors", { sectors: 0n }, /^Volume size is set to zero/],
    ["$MFT outside", { mft: 13000n }, /^\$MFT LCN \(13000\) or \$MFTMirr LCN \(50\) is greater/],
    ["2^60 sectors", { sectors: 1n << 60n }, /^Failed to read last sector \(1152921504606846975\)/],
  ];
  for (const [title, facts, text] of cases) {
    const b = Buffer.isBuffer(facts) ? facts : boot(facts);
    const error = t.throws(() => parseBoot(b), { instanceOf: NtfsError }, title);
    t.regex(error.nativeText, text, title);
    t.is(error.errno, 22, title);
  }
});

test("probing wants the signature", (t) => {
  t.true(probeNtfs(boot({})));
  t.false(probeNtfs(boot({}).subarray(0, 511)));
  t.false(probeNtfs(Buffer.alloc(512)));
});
