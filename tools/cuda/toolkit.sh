#!/usr/bin/env bash
# Fetches what CUDA 11.8 takes to build and check without a card, and without
# installing 5 GB: headers, link-time stubs, NVRTC and ptxas, from Debian's
# non-free packages, unpacked below a folder. Nothing is installed, root is not
# needed, and a complete folder is left as it is.
#
#   tools/cuda/toolkit.sh [FOLDER]    default: pixpro/cuda-11.8 in the user's cache folder
#
# prints the folder. It fetches 875 MB once and keeps 90 MB.
# DEBIAN_MIRROR names another mirror than deb.debian.org.
set -euo pipefail

root=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/pixpro/cuda-11.8}
contents=1 # raise it when more is unpacked, so that older folders are made anew
if [ "$(cat "$root/complete" 2>/dev/null)" = "$contents" ]; then
  echo "$root"
  exit
fi

keys=/usr/share/keyrings/debian-archive-keyring.gpg
for need in apt-get dpkg-deb "$keys"; do
  if ! command -v "$need" >/dev/null && ! [ -e "$need" ]; then
    echo "toolkit.sh: $need is missing: this takes Debian or Ubuntu with debian-archive-keyring; elsewhere install CUDA 11.x or 12.x and set CUDA_HOME" >&2
    exit 1
  fi
done
if [ "$(dpkg --print-architecture)" != amd64 ]; then
  echo "toolkit.sh: only for amd64; elsewhere install CUDA 11.x or 12.x and set CUDA_HOME" >&2
  exit 1
fi

mkdir -p "$(dirname "$root")"
work=$(mktemp -d "$root.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/apt/state" "$work/new"
echo "deb [arch=amd64 signed-by=$keys] ${DEBIAN_MIRROR:-http://deb.debian.org/debian} bookworm contrib non-free" >"$work/apt/sources.list"
apt() {
  apt-get -qq -o Dir::Etc::SourceList="$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State="$work/apt/state" -o Dir::State::Lists="$work/apt/lists" -o Dir::Cache="$work/apt" \
    -o APT::Sandbox::User="" -o Acquire::Retries=3 "$@"
}
echo "fetching CUDA 11.8 from ${DEBIAN_MIRROR:-http://deb.debian.org/debian} (875 MB) to $root" >&2
apt update >&2
fetch() { (cd "$work" && apt download "$1" >&2); }
unpack() { # PACKAGE PATTERN...
  fetch "$1"
  dpkg-deb --fsys-tarfile "$work/$1"_*.deb | tar x -C "$work/new" --wildcards "${@:2}"
  rm "$work/$1"_*.deb
}
lib=./usr/lib/x86_64-linux-gnu
unpack nvidia-cuda-dev './usr/include/*' "$lib/stubs/libcuda.so" "$lib/stubs/libcublas.so" "$lib/stubs/libnvrtc.so"
unpack libnvrtc11.2 "$lib/*"
unpack libnvrtc-builtins11.8 "$lib/*"
unpack nvidia-cuda-toolkit './usr/bin/ptxas'

echo "$contents" >"$work/new/complete"
rm -rf "$root"
mv "$work/new" "$root"
echo "$root"
