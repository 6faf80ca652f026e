#!/usr/bin/env bash
# Packs what is to be run on a machine with an NVIDIA card that has no Go, no
# compiler and no network: bin/gpu-pack, and the same as bin/gpu-pack.tar.gz.
#
#   make gpu-pack && scp bin/gpu-pack.tar.gz machine: && ssh machine 'tar xzf gpu-pack.tar.gz && gpu-pack/verify.sh --minutes 10'
set -euo pipefail
cd "$(dirname "$0")/../.."
limit=$((48 << 20)) # bytes that the archive may have

eval "$(tools/cuda/flags.sh)"
go=${GO:-go}
pack=bin/gpu-pack
rm -rf "$pack" "$pack.tar.gz"
mkdir -p "$pack/tests" "$pack/golden"
build=(-tags "cuda,netgo,osusergo" -ldflags "-s -w")
"$go" build "${build[@]}" -o "$pack/pixpro-cuda" ./tools/pixpro
"$go" test -c "${build[@]}" -o "$pack/tests/cuda.test" ./train/device/cuda
"$go" test -c "${build[@]}" -o "$pack/tests/train.test" ./train
CGO_ENABLED=0 "$go" build -ldflags "-s -w" -o "$pack/verify" ./tools/cuda/verify
cp tools/cuda/verify.sh tools/cuda/torch_step.py tools/cuda/torch_convolutions.py LICENSE "$pack"
cp -r testdata/golden/train "$pack/golden"
tar czf "$pack.tar.gz.new" -C bin gpu-pack
size=$(stat -c %s "$pack.tar.gz.new")
if ((size >= limit)); then
  echo "pack.sh: $pack.tar.gz has $size bytes, more than $limit" >&2
  exit 1
fi
mv "$pack.tar.gz.new" "$pack.tar.gz"
printf '%s and %s.tar.gz: %d MB, packed %d MB\n' "$pack" "$pack" $(($(du -sb "$pack" | cut -f1) / 1000000)) $((size / 1000000))
