#!/usr/bin/env bash
# Prints the settings that go build -tags cuda needs, for eval: where CUDA's
# headers and link-time libraries are.
#
#   eval "$(tools/cuda/flags.sh)"
#
# They are those of $CUDA_HOME, else of an installed CUDA (nvcc on PATH,
# /usr/local/cuda, or Debian's nvidia-cuda-dev), else those that toolkit.sh
# fetches. Options of one's own in CGO_CFLAGS and CGO_LDFLAGS come after.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

home=${CUDA_HOME:-}
if [ -z "$home" ]; then
  nvcc=$(command -v nvcc || true)
  for home in ${nvcc:+"$(dirname "$(dirname "$(readlink -f "$nvcc")")")"} /usr/local/cuda /usr ""; do
    [ -n "$home" ] && [ -e "$home/include/cuda.h" ] && [ -e "$home/include/cublas_v2.h" ] && [ -e "$home/include/nvrtc.h" ] && break
  done
fi
if [ -z "$home" ]; then
  home=$("$here/toolkit.sh" ${CUDA_CACHE:+"$CUDA_CACHE"})/usr
fi
if ! [ -e "$home/include/cuda.h" ]; then
  echo "flags.sh: no include/cuda.h in $home: set CUDA_HOME to the folder of CUDA 11.x or 12.x, or leave it away" >&2
  exit 1
fi
version=$(sed -n 's/^#define CUDA_VERSION \([0-9]*\).*/\1/p' "$home/include/cuda.h")
if [ "${version:-0}" -lt 11000 ] || [ "$version" -ge 13000 ]; then
  echo "flags.sh: $home holds CUDA $((version / 1000)).$((version % 1000 / 10)); the bindings take headers of 11.x and 12.x. Set CUDA_HOME to such a one." >&2
  exit 1
fi

libraries=
for folder in "$home/lib64" "$home/lib64/stubs" "$home/lib/x86_64-linux-gnu" "$home/lib/x86_64-linux-gnu/stubs" "$home/lib" "$home/lib/stubs"; do
  [ -d "$folder" ] && libraries+=" -L$folder"
done
printf 'export CGO_ENABLED=1\n'
printf 'export CGO_CFLAGS=%q\n' "-O2 -I$home/include ${CGO_CFLAGS:-}"
printf 'export CGO_LDFLAGS=%q\n' "${libraries# } ${CGO_LDFLAGS:-}"
