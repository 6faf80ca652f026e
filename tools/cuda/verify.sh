#!/usr/bin/env bash
# What to run first on a machine with an NVIDIA card: says whether everything
# that the software device showed holds on the card, and how fast it is.
#
#   make gpu-verify                                       about 15 minutes on one H100
#   VERIFY_ARCH=resnet18 VERIFY_SIZE=96 VERIFY_BATCHES="16 32" make gpu-verify
#
# The whole output goes to bin/gpu-verify.txt too. It ends with one line a part,
# and with exit code 1 if one failed. Parts that need what is not there, PyTorch
# with CUDA and compute-sanitizer, say so, as do batches that are too large for the card.
set -uo pipefail
cd "$(dirname "$0")/../.."

go=${GO:-go}
arch=${VERIFY_ARCH:-resnet50} size=${VERIFY_SIZE:-224} batches=${VERIFY_BATCHES:-32 64 128} steps=${VERIFY_STEPS:-10}
python=${PIXPRO_PYTHON:-python3}
mkdir -p bin
exec > >(tee bin/gpu-verify.txt) 2>&1

summary=() failures=0
too_large=99 # the status of a part that the card's memory is too small for
part() { # NAME COMMAND...
  printf '\n== %s\n' "$1"
  local started=$SECONDS status=0
  "${@:2}" || status=$?
  case $status in
  0) summary+=("ok      $1 ($((SECONDS - started)) s)") ;;
  "$too_large") summary+=("left out: $1, the card's memory is too small") ;;
  *)
    summary+=("FAILED  $1")
    failures=$((failures + 1))
    ;;
  esac
}
skip() {
  printf '\n== %s: left out, %s\n' "$1" "$2"
  summary+=("left out: $1, $2")
}

machine() {
  date -u
  uname -srm
  "$go" version
  git describe --always --dirty 2>/dev/null
  if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=name,memory.total,driver_version,clocks.max.sm,clocks.max.memory,power.limit --format=csv
  fi
  flags=$(tools/cuda/flags.sh) || return
  echo "$flags"
  eval "$flags"
  "$go" build -tags cuda -o bin/pixpro-cuda ./tools/pixpro && bin/pixpro-cuda devices
}

# The sanitizer's racecheck and synccheck find what the software device cannot.
sanitized() { compute-sanitizer --tool "$1" --error-exitcode 1 bin/cuda.test -test.short -test.run '^Test(Device|LowerPrecisions|LargeUploadArrives)$'; }

# Cards below compute capability 8.0 have fp32 only.
precisions() {
  if bin/pixpro-cuda devices --json | grep -q '"bf16": *true'; then echo fp32 tf32 bf16; else echo fp32; fi
}

declare -A fitting # the largest batch of a precision that fits
step() { # PRECISION BATCH
  local said status=0
  said=$(bin/pixpro-cuda bench step --device cuda --precision "$1" --arch "$arch" --size "$size" --batch "$2" --steps "$steps" 2>&1) || status=$?
  printf '%s\n' "$said"
  if ((status == 0)); then
    fitting[$1]=$2
  elif grep -qE 'does not fit|for another tensor|no memory left' <<<"$said"; then
    return $too_large
  fi
  return $status
}
torch_step() {
  "$python" tools/cuda/torch_step.py --precision "$1" --arch "$arch" --size "$size" --batch "$2" --steps "$steps"
}
# Both take turns, so that a card that gets warm slows both down.
compare() { # PRECISION BATCH
  local ours theirs
  for _ in 1 2 3; do
    ours=$(bin/pixpro-cuda bench step --device cuda --precision "$1" --arch "$arch" --size "$size" --batch "$2" --steps "$steps" --json) || return
    theirs=$(torch_step "$1" "$2") || return
    "$python" -c '
import json, sys
ours, theirs = (json.loads(a) for a in sys.argv[1:])
a, b = ours["pairs_per_second"], theirs["pairs_per_second"]
print("pixpro %.1f pairs/s, PyTorch %s %.1f pairs/s: %.2f times" % (a, theirs["torch"], b, a / b))' "$ours" "$theirs" || return
  done
}

part "build, driver, toolkit, cards" machine
if ((failures)); then
  printf '\nWithout a working build and card there is nothing to verify: see docs/cuda.md.\n'
  exit 1
fi
eval "$(tools/cuda/flags.sh)"
part "device suite: every operation at every precision" "$go" test -tags cuda -count=1 -v -run '^Test' ./train/device/cuda
part "golden training runs, and 20 steps from shards beside the CPU's" "$go" test -tags cuda -count=1 -v -run CUDA ./train
if command -v compute-sanitizer >/dev/null; then
  "$go" test -tags cuda -c -o bin/cuda.test ./train/device/cuda
  for tool in memcheck racecheck synccheck initcheck; do
    part "compute-sanitizer $tool" sanitized $tool
  done
else
  skip "memory and race checks" "compute-sanitizer is not on PATH"
fi
precisions=${VERIFY_PRECISIONS:-$(precisions)}
for precision in $precisions; do
  for batch in $batches; do
    part "step time, $arch, $size px, $precision, $batch pairs" step "$precision" "$batch"
  done
done
if "$python" -c 'import sys, torch, torchvision; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  for precision in $precisions; do
    if batch=${fitting[$precision]:-}; [ -n "$batch" ]; then
      part "beside PyTorch, $precision, $batch pairs" compare "$precision" "$batch"
    fi
  done
else
  skip "step time beside PyTorch" "$python has no torch with CUDA and torchvision (PIXPRO_PYTHON names another)"
fi

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
exit $((failures > 0))
