#!/usr/bin/env bash
# Runs test_interop.py against the program given, with what the system's Python
# has, and in a virtual environment with what it lacks.
#
#   interop.sh PIXPRO      (VENV: where the environment goes, PYTHON: which Python)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${1:?the program to test is missing}")
python=${PYTHON:-/usr/bin/python3}
[ -x "$python" ] || python=python3

missing() { # what to install for modules that cannot be imported
  # Later releases of pyarrow need NumPy 2, with which a torch built for NumPy 1
  # does not work.
  for package in "numpy:numpy" "PIL:pillow" "torch:torch" "pyarrow:pyarrow>=14,<22"; do
    "$1" -c "import ${package%%:*}" 2>/dev/null || echo "${package#*:}"
  done
}

if [ -n "$(missing "$python")" ]; then
  venv=${VENV:-$here/.venv}
  [ -x "$venv/bin/python" ] || "$python" -m venv --system-site-packages "$venv"
  python=$venv/bin/python
  packages=$(missing "$python")
  [ -z "$packages" ] || "$python" -m pip install --quiet --disable-pip-version-check $packages
fi
cd "$here"
exec "$python" -B test_interop.py "$program"
