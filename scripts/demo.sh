#!/usr/bin/env bash
# From a bare checkout to a proof: a real ext4 volume is captured to QCOW2, mapped, restored and compared.
set -euo pipefail
exec 2>&1
cd "$(dirname "$0")/.."
root=$PWD
. scripts/node-modules.sh
if [ ! -e dist/cli/main.js ] || [ -n "$(find src cli assembly web -newer dist/cli/main.js -type f -print -quit)" ]; then
  npm run --silent build
fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/imprint-demo.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
volume=volume.img image=volume.qcow2 restored=restored.img
imprint() { node "$root/dist/cli/main.js" "$@"; }
TIMEFORMAT='  took %R s'

# Says a command, runs it and says how long it took.
say() {
  printf '\n$ %s\n' "$*"
  time "$@"
}

if command -v mke2fs >/dev/null; then
  echo "Making an ext4 volume of 512 MiB out of node_modules/typescript, esbuild, binaryen and assemblyscript"
  mkdir tree
  cp -r "$root"/node_modules/{typescript,esbuild,binaryen,assemblyscript} tree
  truncate -s 512M "$volume"
  mke2fs -q -F -t ext4 -L imprint-demo -d tree "$volume"
  rm -rf tree
else
  echo "Unpacking a small ext4 volume (no mke2fs here to make a larger one)"
  node -e '
    const [from, to] = process.argv.slice(1), fs = require("node:fs");
    fs.writeFileSync(to, require("node:zlib").gunzipSync(fs.readFileSync(from)));
  ' "$root/test/fixtures/demo.img.gz" "$volume"
fi

say imprint info "$volume"
say imprint capture "$volume" "$image" --used --format qcow2
say imprint map "$image"
say imprint restore "$image" "$restored"
say imprint compare "$volume" "$restored"
say cmp "$volume" "$restored"
echo "  the same bytes"
if command -v e2fsck >/dev/null; then
  say e2fsck -fn "$restored"
fi

size() { stat -c %s "$1"; }
used() { echo $(($(stat -c '%b * %B' "$1"))); }
echo
echo "volume:   $(size "$volume") bytes, $(used "$volume") on disk"
echo "image:    $(size "$image") bytes, $(used "$image") on disk"
echo "restored: $(size "$restored") bytes, $(used "$restored") on disk, equal to the volume"
