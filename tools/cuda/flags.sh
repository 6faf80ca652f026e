#!/usr/bin/env bash
# Prints the settings that go build -tags cuda needs, for eval: where cuda.h is,
# also as CUDA_INCLUDE. No library of CUDA's is linked: they are opened when the
# program runs.
#
#   eval "$(tools/cuda/flags.sh)"
#
# The header is that of $CUDA_HOME, else of an installed CUDA 11 or 12, else the
# one that fetch.sh fetches. Options of one's own in CGO_CFLAGS and CGO_LDFLAGS
# come after.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

release() { sed -n 's/^#define CUDA_VERSION \([0-9]*\).*/\1/p' "$1/cuda.h" 2>/dev/null; }
fits() { # FOLDER: with a cuda.h that the bindings take
  local version
  version=$(release "$1")
  ((${version:-0} >= 11000 && version < 13000))
}
if [ -n "${CUDA_HOME:-}" ]; then
  include=$CUDA_HOME/include
  if ! fits "$include"; then
    echo "flags.sh: no cuda.h of CUDA 11 or 12 in $include, which the bindings take: set CUDA_HOME to the folder of such a one, or leave it away" >&2
    exit 1
  fi
else
  include=
  for folder in /usr/local/cuda*/include /usr/include; do
    if fits "$folder"; then
      include=$folder
      break
    fi
  done
  [ -n "$include" ] || include=$("$here/fetch.sh" header)
fi
printf 'export CUDA_INCLUDE=%q CGO_ENABLED=1\n' "$include"
printf 'export CGO_CFLAGS=%q\n' "-O2 -I$include ${CGO_CFLAGS:-}"
# gorgonia.org/cu asks for -lcuda: an archive of nothing, see package driver.
printf 'export CGO_LDFLAGS=%q\n' "-L$here/lib ${CGO_LDFLAGS:-}"
