// Wrong and unusual option values of the commands that take -o, and sources that are neither files nor disks: the
// words, streams and exit codes of qemu-img.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { scratch } from "../support/host.ts";
import { QemuPair } from "../support/qemu-pair.ts";

const VALUES = [
  ...["nocow=maybe", "nocow", "nonocow", "node", "no", "nofoo", "nohelp", "foo", "foo=1", "a=b=c", "=x"],
  ...["lazy_refcounts=maybe", "lazy_refcounts=", "lazy_refcounts=on,compat=0.10", "nolazy_refcounts"],
  ...[
    "cluster_size=3",
    "cluster_size=",
    "cluster_size=0",
    "cluster_size=4M",
    "cluster_size=-1",
    "cluster_size",
  ],
  ...["refcount_bits=7", "refcount_bits=", "refcount_bits=128", "refcount_bits=18446744073709551632"],
  ...["refcount_bits=8,compat=0.10", "compat=2", "compat=", "preallocation=x", "preallocation="],
  ...[
    "compression_type=x",
    "compression_type=zstd,compat=0.10",
    "extended_l2=x",
    "extended_l2=on,cluster_size=8k",
  ],
  ...["extended_l2=on,compat=0.10", "noextended_l2", "encryption=x", "encryption=on,encrypt.format=aes"],
  ...[
    "encrypt.format=x",
    "encrypt.format=",
    "encrypt.format=luks",
    "encrypt.format=luks,encrypt.key-secret=s",
  ],
  ...["encrypt.key-secret=s", "encrypt.iter-time=x", "size=x", "size=", "size=-1", "size=99E", "size=8E"],
  ...["size=9223372036854775807", "size=9223372036854775296", "size=18446744073709551615"],
  ...["data_file=", "data_file_raw=on", "backing_file=", "backing_fmt=x", "extent_size_hint=x"],
  ...["help", "help,size=3", "help=1", "", ",", ",,", ",,a=1", "a,,", "size=2M,", ",size=2M"],
];

test("option values of create, convert, amend and measure", async (t) => {
  const pair = new QemuPair(scratch(t, "options"));
  await pair.make("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M");
  await pair.make("qemu-img", "create", "-q", "-f", "raw", "r.raw", "1M");
  pair.copy("a.qcow2", "r.raw");
  for (const value of VALUES) {
    await pair.same(t, "create", "-f", "qcow2", "-o", value, "n.img", "1M");
    await pair.same(t, "create", "-f", "raw", "-o", value, "n.img");
    await pair.same(t, "create", "-f", "file", "-o", value, "n.img", "1M");
    await pair.same(t, "convert", "-O", "qcow2", "-o", value, "r.raw", "n.img");
    await pair.same(t, "amend", "-f", "qcow2", "-o", value, "a.qcow2");
    await pair.same(t, "measure", "-O", "qcow2", "-o", value, "a.qcow2");
  }
});

test("the protocol driver as an output format", async (t) => {
  const pair = new QemuPair(scratch(t, "options-file"));
  await pair.make("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M");
  await pair.make("qemu-io", "-c", "write -q -P 7 0 100k", "a.qcow2");
  pair.copy("a.qcow2");
  for (const line of [
    "create -f file n.img 1M",
    "create -f file -b a.qcow2 -F qcow2 n.img 1M",
    "create -f file -F qcow2 n.img 1M",
    "create -f file -o help",
    "create -f file -o help n.img",
    "create -f file n.img",
    "convert -O file -o help a.qcow2 n.img",
    "convert -c -O file a.qcow2 n.img",
    "convert -O file -B a.qcow2 a.qcow2 n.img",
    "convert --bitmaps -O file a.qcow2 n.img",
    "convert -c -O qcow2 -o data_file=d.raw a.qcow2 n.img",
    "measure -O file --size 1M",
    "amend -o help -f foo",
  ])
    await pair.same(t, ...line.split(" "));
  for (const line of ["convert -O file a.qcow2 c.img", "dd -O file if=a.qcow2 of=d.img"]) {
    t.is(await pair.same(t, ...line.split(" ")), 0);
    const made = line.slice(line.lastIndexOf(line.startsWith("dd") ? "=" : " ") + 1);
    t.deepEqual(readFileSync(join(pair.ours, made)), readFileSync(join(pair.native, made)), line);
  }
});

test("character devices are images of 0 bytes", async (t) => {
  const pair = new QemuPair(scratch(t, "options-device"));
  await pair.make("qemu-img", "create", "-q", "-f", "raw", "r.raw", "1M");
  pair.copy("r.raw");
  for (const line of [
    "info /dev/null",
    "info --output=json /dev/zero",
    "info -f file /dev/zero",
    "info -f host_device /dev/zero",
    "map -f raw /dev/zero",
    "map -f raw --output=json /dev/zero",
    "check /dev/null",
    "check -f qcow2 /dev/zero",
    "compare -f raw -F raw /dev/zero r.raw",
    "measure -f raw -O qcow2 /dev/zero",
    "snapshot -l /dev/null",
    "convert -f raw -O qcow2 /dev/zero n.qcow2",
    "dd if=/dev/zero of=n.raw count=3",
    "create -f qcow2 -b /dev/zero -F raw o.qcow2 1M",
  ])
    await pair.same(t, ...line.split(" "));
  for (const name of ["n.qcow2", "o.qcow2", "n.raw"])
    t.deepEqual(readFileSync(join(pair.ours, name)), readFileSync(join(pair.native, name)), name);
});
