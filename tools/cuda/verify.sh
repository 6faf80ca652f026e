#!/bin/sh
# What to run first on a machine with an NVIDIA card: says whether everything that
# the software device showed holds on the card, and how fast it is. It lies in the
# folder that make gpu-pack makes, and takes nothing but that folder, the driver,
# and CUDA's libraries; with PyTorch it compares.
#
#   ./verify.sh --minutes 10 --out report
#   ./verify.sh --help
here=$(cd "$(dirname "$0")" && pwd) || exit
if [ ! -x "$here/verify" ]; then
  echo "verify.sh: $here is not the folder that make gpu-pack makes: run that, and bin/gpu-pack/verify.sh" >&2
  exit 1
fi
exec "$here/verify" -pack "$here" "$@"
