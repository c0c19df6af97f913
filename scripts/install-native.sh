#!/usr/bin/env bash
# Installs the native tools that the differential tests compare with, where that is allowed: as root, or through sudo
# without a password. Does nothing when they are all there.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

packages=(e2fsprogs btrfs-progs xfsprogs ntfs-3g ocfs2-tools qemu-utils zstd bzip2 chromium gcc libc6-dev psmisc fdisk)
tools=(
  e2image mke2fs debugfs tune2fs resize2fs e2fsck dumpe2fs # e2fsprogs
  mkfs.btrfs btrfs-image                                   # btrfs-progs
  mkfs.xfs                                                 # xfsprogs
  ntfsclone mkntfs                                         # ntfs-3g
  o2image mkfs.ocfs2                                       # ocfs2-tools
  qemu-img                                                 # qemu-utils
  zstd bzip2 chromium
  cc     # gcc: the library that makes reads fail
  fuser  # psmisc
  sfdisk # fdisk
)
missing=()
for tool in "${tools[@]}"; do command -v "$tool" >/dev/null || missing+=("$tool"); done
[ ${#missing[@]} -eq 0 ] && exit 0

line="apt-get install -y --no-install-recommends ${packages[*]}"
as_root=()
if ! command -v apt-get >/dev/null; then
  echo "Missing: ${missing[*]}. This system has no apt-get; install what Debian calls: ${packages[*]}" >&2
  exit 1
elif [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
  else
    echo "Missing: ${missing[*]}. As root, run:" >&2
    echo "  apt-get update && $line" >&2
    exit 1
  fi
fi
echo "Installing the native tools: ${missing[*]} are missing"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q
# shellcheck disable=SC2086
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $line
for tool in "${missing[@]}"; do
  command -v "$tool" >/dev/null || {
    echo "$tool is still missing after: $line" >&2
    exit 1
  }
done
