#!/usr/bin/env bash
# Makes a virtual environment with what the programs in this folder import,
# over the packages that the system's Python has.
#
#   venv.sh FOLDER      (PYTHON: which Python, /usr/bin/python3 unless told)
set -euo pipefail
venv=${1:?the folder of the environment is missing}
base=${PYTHON:-/usr/bin/python3}
[ -x "$base" ] || base=python3
[ -x "$venv/bin/python" ] || "$base" -m venv --system-site-packages "$venv"

# Later releases of pyarrow need NumPy 2, with which a torch built for NumPy 1
# does not work.
lacking=()
for package in "numpy:numpy" "PIL:pillow" "torch:torch" "torchvision:torchvision" "pyarrow:pyarrow>=14,<22"; do
  "$venv/bin/python" -c "import ${package%%:*}" 2>/dev/null || lacking+=("${package#*:}")
done
if [ ${#lacking[@]} -gt 0 ]; then
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${lacking[@]}"
fi
