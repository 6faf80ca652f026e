#!/usr/bin/env bash
# Fetches parts of CUDA from PyPI, unpacked below a folder, without installing
# anything:
#
#   tools/cuda/fetch.sh header      the folder of a cuda.h (3.5 MB)
#   tools/cuda/fetch.sh compilers   a folder with NVRTC 11.8, 12.9 and 13.5 and
#                                   the disassembler (180 MB), which needs them
#
# prints the folder; what is there is left as it is. CUDA_CACHE names another
# place than pixpro/cuda in the user's cache folder. It takes Python with pip or
# venv; pip's settings (mirrors, proxies) hold.
set -euo pipefail

case ${1:-} in
header)
  packages=(nvidia-cuda-runtime-cu12==12.9.79)
  inside=nvidia-cuda-runtime-cu12/nvidia/cuda_runtime/include
  ;;
compilers)
  packages=(nvidia-cuda-nvrtc-cu11==11.8.89 nvidia-cuda-nvrtc-cu12==12.9.86 nvidia-cuda-nvrtc==13.5.37 nvidia-cuda-nvdisasm==13.5.37)
  inside=.
  ;;
*)
  echo "usage: fetch.sh header|compilers" >&2
  exit 2
  ;;
esac
root=${CUDA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pixpro/cuda}
mkdir -p "$root"

python=${PYTHON:-python3}
for package in "${packages[@]}"; do
  name=${package%==*} version=${package#*==}
  if [ "$(cat "$root/$name/complete" 2>/dev/null)" = "$version" ]; then
    continue
  fi
  echo "fetching $package from PyPI" >&2
  work=$(mktemp -d "$root/$name.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  if ! "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv "$work/venv" >&2
    python=$work/venv/bin/python
  fi
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$package" >&2
  mkdir "$work/new"
  "$python" -m zipfile -e "$work"/*.whl "$work/new"
  find "$work/new" -path '*/bin/*' -type f -exec chmod +x {} +
  echo "$version" >"$work/new/complete"
  rm -rf "${root:?}/$name"
  mv "$work/new" "$root/$name"
  rm -rf "$work"
  trap - EXIT
  python=${PYTHON:-python3}
done
(cd "$root/$inside" && pwd)
