#!/usr/bin/env bash
# Builds the software device: a library under the names of CUDA's.
#
#   softcuda/build.sh INCLUDE OUT
#
# INCLUDE has CUDA's cuda.h. A program built with -tags cuda finds the device
# with LD_LIBRARY_PATH=OUT.
set -euo pipefail
if [ $# != 2 ]; then
  echo "usage: build.sh INCLUDE OUT" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
include=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
g++ -std=c++17 -O2 -Wall -Wextra -Werror -Wno-missing-field-initializers -fPIC -shared -fvisibility=hidden \
  -I"$include" -DSOFTCUDA_HOME="\"$here/src\"" \
  -o "$out/libsoftcuda.so.new" "$here"/src/{driver,compiler,blas,cudnn}.cpp -ldl -lpthread
mv "$out/libsoftcuda.so.new" "$out/libsoftcuda.so"
for name in libcuda.so.1 libnvrtc.so.{11.2,12,13} libcublas.so.{11,12,13} libcudnn.so.9; do
  ln -sf libsoftcuda.so "$out/$name"
done
