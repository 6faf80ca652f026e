#!/usr/bin/env bash
# Runs the CUDA device's tests where no card is, on the software device: once
# with a block's threads in order and streams that run at once, once with both
# turned around and fused multiplications, as a card has them.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v g++ >/dev/null; then
  echo "test.sh: g++ is missing, which builds the software device: apt-get install g++" >&2
  exit 1
fi
flags=$(tools/cuda/flags.sh)
eval "$flags"
go=${GO:-go}
GOCACHE=$("$go" env GOCACHE)
export GOCACHE

soft=$PWD/bin/softcuda
internal/softcuda/build.sh "$CUDA_INCLUDE" "$soft"
caches=$(mktemp -d) # no code for the software device in the user's cache
trap 'rm -rf "$caches"' EXIT
export SOFTCUDA_CACHE=$caches/softcuda LD_LIBRARY_PATH=$soft${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

tags=cuda,netgo,osusergo # as make cuda
"$go" vet -tags $tags ./train/device/cuda/... ./internal/softcuda ./train ./train/method ./tools/pixpro
run() {
  # A card's code is kept without regard to how the software device compiles:
  # each run has a cache of its own.
  export XDG_CACHE_HOME=$caches/$SOFTCUDA_ORDER
  printf '\nthreads %s, streams %s\n' "$SOFTCUDA_ORDER" "$SOFTCUDA_ASYNC"
  "$go" test -tags $tags -count=1 "$@" ./train/device/cuda/... ./internal/softcuda
  "$go" test -tags $tags -count=1 -short "$@" -run CUDA ./train ./train/method ./tools/pixpro
}
export SOFTCUDA_ORDER=forward SOFTCUDA_ASYNC=eager
run "$@"
export SOFTCUDA_ORDER=reverse SOFTCUDA_ASYNC=lazy SOFTCUDA_VERSION=11080
if grep -qw fma /proc/cpuinfo; then
  export SOFTCUDA_CXXFLAGS="-mavx2 -mfma"
fi
# What fails, fails in the same way whatever the order.
run -skip '^Test(EveryCallFails|FailedCallsOnCUDA|LibrariesCUDA)$' "$@"
