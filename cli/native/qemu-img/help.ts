import { version } from "../../version.ts";

/** One line a command, as native writes them: the interface that scripts and completions read. */
const SYNTAX: readonly string[] = [
  "amend [--object objectdef] [--image-opts] [-p] [-q] [-f fmt] [-t cache] [--force] -o options filename",
  "bitmap (--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b source_file [-F source_fmt]] [-g granularity] [--object objectdef] [--image-opts | -f fmt] filename bitmap",
  "check [--object objectdef] [--image-opts] [-q] [-f fmt] [--output=ofmt] [-r [leaks | all]] [-T src_cache] [-U] filename",
  "commit [--object objectdef] [--image-opts] [-q] [-f fmt] [-t cache] [-b base] [-r rate_limit] [-d] [-p] filename",
  "compare [--object objectdef] [--image-opts] [-f fmt] [-F fmt] [-T src_cache] [-p] [-q] [-s] [-U] filename1 filename2",
  "convert [--object objectdef] [--image-opts] [--target-image-opts] [--target-is-zero] [--bitmaps] [-U] [-C] [-c] [-p] [-q] [-n] [-f fmt] [-t cache] [-T src_cache] [-O output_fmt] [-B backing_file [-F backing_fmt]] [-o options] [-l snapshot_param] [-S sparse_size] [-r rate_limit] [-m num_coroutines] [-W] [--salvage] filename [filename2 [...]] output_filename",
  "create [--object objectdef] [-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] [-o options] filename [size]",
  "dd [--image-opts] [-U] [-f fmt] [-O output_fmt] [bs=block_size] [count=blocks] [skip=blocks] if=input of=output",
  "info [--object objectdef] [--image-opts] [-f fmt] [--output=ofmt] [--backing-chain] [-U] filename",
  "map [--object objectdef] [--image-opts] [-f fmt] [--start-offset=offset] [--max-length=len] [--output=ofmt] [-U] filename",
  "measure [--output=ofmt] [-O output_fmt] [-o options] [--size N | [--object objectdef] [--image-opts] [-f fmt] [-l snapshot_param] filename]",
  "snapshot [--object objectdef] [--image-opts] [-U] [-q] [-l | -a snapshot | -c snapshot | -d snapshot] filename",
  "rebase [--object objectdef] [--image-opts] [-U] [-q] [-f fmt] [-t cache] [-T src_cache] [-p] [-u] -b backing_file [-F backing_fmt] filename",
  "resize [--object objectdef] [--image-opts] [-f fmt] [--preallocation=prealloc] [-q] [--shrink] filename [+ | -]size",
];

/** The text of --help, with and without a command. */
export function helpText(): string {
  return `qemu-img version 7.2 (Imprint ${version()})
usage: qemu-img [standard options] command [command options]
QEMU disk image utility, as Imprint does it

    '-h', '--help'       show this text
    '-V', '--version'    show the version
    '-T', '--trace'      accepted; there are no trace events
    '--untrusted'        open no file that an image names, probe no format (-f is needed) and report what is
                         cut short; before or after the command

Command syntax:
${SYNTAX.map((line) => `  ${line}\n`).join("")}
Command parameters:
  'filename'       an image: a path, file:PATH or json:{...}; with --image-opts driver=FMT,file.filename=PATH
  'fmt'            format of the image; without it the first bytes decide
  'cache'          none, writeback, writethrough, directsync or unsafe; all of them use the page cache here
  'size'           bytes, or a number with k, M, G, T, P or E (powers of 1024)
  'options'        name=value,name=value...; '-o help' lists them
  'objectdef'      secret,id=ID,data=TEXT; other objects are not known
  'snapshot_param' snapshot.id=ID,snapshot.name=NAME, or an ID or NAME alone
  '-p'             show progress
  '-q'             print errors only
  '-U'             use the image although another process has it open for writing
  '--output'       human or json
  '-S'             bytes of zeros in a row that become a hole (default 4k); 0 allocates everything

compare:   '-s' also differences in size and allocation count; '-F' format of the second image
check:     '-r leaks' gives lost clusters back; '-r all' repairs everything
snapshot:  '-l' list, '-c' create, '-a' apply, '-d' delete
bitmap:    actions are done in the order they are given; '-g' granularity for '--add', '-b' and '-F' file and
           format that '--merge' takes its bitmap from
dd:        'if=' and 'of=' files, 'bs=' bytes a block, 'count=' and 'skip=' blocks

Supported formats: qcow2 raw
`;
}
