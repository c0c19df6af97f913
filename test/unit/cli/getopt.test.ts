import { spawnSync } from "node:child_process";
import test from "ava";
import { describeOptions, type OptionSpec, parse, wrap } from "../../../cli/getopt.ts";

const SPECS: readonly OptionSpec[] = [
  { key: "a", short: "a", help: "take all" },
  { key: "r", short: "r" },
  { key: "o", short: "o", arg: "OFFSET", help: "start at OFFSET" },
  { key: "c", short: "c", arg: "N", optional: true },
  { key: "foo", long: "foo", arg: "X" },
  { key: "bar", long: "bar" },
  { key: "barz", long: "barz" },
  { key: "bat", long: "bat" },
  { key: "opt", long: "opt", arg: "Y", optional: true },
  {
    key: "long-name",
    long: "long-name",
    help: "a help text that is long enough to need more than a line or two",
  },
];

/** Our parse in the words of util-linux getopt(1), which is glibc's getopt_long. */
function ours(args: readonly string[], posix: boolean): { out: string; errors: string } {
  let out = "";
  let errors = "";
  const operands: string[] = [];
  const quote = (v: string): string => ` '${v.replaceAll("'", "'\\''")}'`;
  for (const item of parse(args, SPECS, { posix })) {
    if (item.kind === "error") errors += `P: ${item.message}\n`;
    else if (item.kind === "operand") operands.push(item.value);
    else {
      const spec = SPECS.find((s) => s.key === item.key)!;
      out += ` ${item.name}`;
      if (spec.arg !== undefined) out += quote(item.value ?? "");
    }
  }
  return { out: `${out} --${operands.map(quote).join("")}\n`, errors };
}

const LINES: readonly (readonly string[])[] = [
  [],
  ["-aro", "1048576", "x"],
  ["-aro1048576", "x"],
  ["x", "-a", "y", "-r"],
  ["-a", "--", "-r", "x"],
  ["x", "--", "-a"],
  ["-"],
  ["-", "-a", "-"],
  [""],
  ["-o", ""],
  ["-o", "--"],
  ["-o", "-a"],
  ["-a", "-o"],
  ["-ao"],
  ["-z"],
  ["-azr", "x"],
  ["-a-"],
  ["-:"],
  ["-;"],
  ["-c"],
  ["-c5"],
  ["-c", "5"],
  ["-ac5", "-cr"],
  ["--foo=1", "--foo", "2", "--fo", "3", "--f=4"],
  ["--foo="],
  ["--foo"],
  ["--fo"],
  ["--bar"],
  ["--bar=1"],
  ["--ba"],
  ["--b=3"],
  ["--barz"],
  ["--bat=1"],
  ["--opt"],
  ["--opt=3", "--op", "x", "--o=4"],
  ["--x=1"],
  ["--x", "-z", "-a"],
  ["--l"],
  ["--long-nam"],
  ["--="],
  ["--=3"],
  ["-a", "it's", "--foo=it's"],
];

for (const posix of [false, true]) {
  test(`the same options, operands and messages as glibc${posix ? ", in POSIX order" : ""}`, (t) => {
    for (const args of LINES) {
      const native = spawnSync(
        "getopt",
        ["-n", "P", "-o", "aro:c::", "-l", "foo:,bar,barz,bat,opt::,long-name", "--", ...args],
        {
          encoding: "utf8",
          env: { ...process.env, LC_ALL: "C", ...(posix ? { POSIXLY_CORRECT: "1" } : {}) },
        },
      );
      const mine = ours(args, posix);
      t.deepEqual(
        { out: mine.out, errors: mine.errors },
        { out: native.stdout, errors: native.stderr },
        args.join(" "),
      );
    }
  });
}

test("spellings of one option do not make an abbreviation ambiguous", (t) => {
  const specs: OptionSpec[] = [
    { key: "colour", long: "colour", arg: "WHEN" },
    { key: "colour", long: "color", arg: "WHEN" },
    { key: "count", long: "count" },
  ];
  t.deepEqual(
    [...parse(["--colo=x"], specs)],
    [{ kind: "option", key: "colour", value: "x", name: "--colour" }],
  );
  t.deepEqual(
    [...parse(["--co"], specs)],
    [
      {
        kind: "error",
        message: "option '--co' is ambiguous; possibilities: '--colour' '--count'",
        word: "--co",
      },
    ],
  );
});

test("without long options a double dash is an invalid letter, as in getopt", (t) => {
  const specs: OptionSpec[] = [{ key: "x", short: "x" }];
  const messages = [...parse(["--x"], specs)].map((i) => (i.kind === "error" ? i.message : i.kind));
  t.deepEqual(messages, ["invalid option -- '-'", "option"]);
});

test("help texts come from the table", (t) => {
  t.is(
    describeOptions(SPECS, 60),
    [
      "  -a               take all",
      "  -o OFFSET        start at OFFSET",
      "      --long-name  a help text that is long enough to need",
      "                   more than a line or two",
      "",
    ].join("\n"),
  );
  t.deepEqual(wrap("one two three", 7), ["one two", "three"]);
  t.deepEqual(wrap("unbreakable", 3), ["unbreakable"]);
});
