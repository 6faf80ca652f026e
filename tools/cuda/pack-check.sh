#!/usr/bin/env bash
# Runs the pack of make gpu-pack to its report on the software device that make
# cuda-test has built: unpacked elsewhere, under another user if this is root's,
# without a home, and with two programs on PATH.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
tar xzf bin/gpu-pack.tar.gz -C "$dir"
cp -a bin/softcuda "$dir/softcuda"
mkdir "$dir/path" "$dir/cache"
ln -s "$(command -v sh)" "$(command -v dirname)" "$dir/path"
mkdir -m 1777 "$dir/out"

# The software device compiles kernels by g++, which is not there afterwards.
export LD_LIBRARY_PATH=$dir/softcuda SOFTCUDA_CACHE=$dir/cache
for precision in fp32 bf16; do
  XDG_CACHE_HOME=$dir/xdg "$dir/gpu-pack/pixpro-cuda" bench step --device cuda --precision $precision \
    --arch resnet18 --width 0.0625 --head-hidden 8 --head-dim 4 --size 32 --batch 1 --steps 1 >"$dir/first.txt" 2>&1 || {
    cat "$dir/first.txt"
    exit 1
  }
done
chmod -R a+rX "$dir/cache" "$dir/softcuda" "$dir/gpu-pack"

as=()
if [ "$(id -u)" = 0 ]; then
  as=("$(command -v setpriv)" --reuid=65534 --regid=65534 --clear-groups)
fi
minutes=4 start=$SECONDS
"${as[@]}" "$(command -v env)" -i PATH="$dir/path" TMPDIR="$dir/out" LD_LIBRARY_PATH="$LD_LIBRARY_PATH" SOFTCUDA_CACHE="$SOFTCUDA_CACHE" \
  "$dir/gpu-pack/verify.sh" --minutes $minutes --short --arch resnet18 --width 0.25 --size 32 --batch 2 --steps 1 --out "$dir/out/report" >"$dir/log" 2>&1 || {
  cat "$dir/log"
  exit 1
}
sed -n '/== summary/,$p' "$dir/log"
stages=$(grep -c '"stage":' "$dir/out/report/report.json")
passed=$(grep -c '"status": "ok"' "$dir/out/report/report.json")
files=$(find "$dir/out/report" -type f | wc -l)
if ((stages != 11 || passed != 8 || files > 8 || SECONDS - start > 60 * minutes)); then
  cat "$dir/log"
  echo "pack-check.sh: $passed of $stages stages, $files files, $((SECONDS - start)) s: want 8 of 11 without PyTorch and NVIDIA's tools, in $minutes minutes" >&2
  exit 1
fi
