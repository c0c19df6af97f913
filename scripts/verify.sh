#!/usr/bin/env bash
# Everything from a bare checkout to the last test: packages, native tools, build, lint, types, tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/node-modules.sh
bash scripts/install-native.sh

# The shapes that only a running kernel makes need a loop mount. Where the machine can't (a container without
# privileges), the tests say so and go on with the others.
if [ "${IMPRINT_NO_MOUNT:-}" != 1 ]; then
  scratch=$(mktemp -d)
  if mke2fs -q -F -t ext2 "$scratch/img" 1M >/dev/null && mkdir "$scratch/mnt" &&
    mount -o loop "$scratch/img" "$scratch/mnt" 2>"$scratch/said"; then
    umount "$scratch/mnt"
  else
    echo "NOTE: no loop mounts here ($(head -n 1 "$scratch/said" 2>/dev/null)): tests run without mounted volumes."
    export IMPRINT_NO_MOUNT=1
  fi
  rm -rf "$scratch"
fi
node scripts/test.mjs "$@"
