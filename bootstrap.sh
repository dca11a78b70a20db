#!/bin/sh
# Makes .venv from the locked requirements: with uv where it can be had, with pip alone where it cannot.
set -eu
cd "$(dirname "$0")"
unset VIRTUAL_ENV UV_PYTHON PYTHONHOME PYTHONPATH || true

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 &&
       "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
fi
if [ -z "$python" ]; then
  echo "Remit needs Python 3.11 or later; name one with PYTHON=/path/to/python3 make setup" >&2
  exit 4
fi

[ -x .venv/bin/python ] || "$python" -m venv --without-pip .venv
uv=.venv/tools/bin/uv
if [ ! -x "$uv" ]; then
  "$python" -m pip install --quiet --disable-pip-version-check --no-warn-script-location --target .venv/tools --upgrade \
    --require-hashes -r requirements/tools.lock >/dev/null 2>&1 || uv=$(command -v uv || true)
fi
[ "${1:-}" = tools-only ] && exit 0

if [ -n "$uv" ] && [ -x "$uv" ]; then
  # The venv keeps its own tools: sync only what is in site-packages.
  "$uv" pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements/dev.lock
  "$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
else
  .venv/bin/python -m ensurepip --default-pip >/dev/null
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
fi
# Compiled once, here: where the environment forbids to write byte code, each start of each program would do it again.
.venv/bin/python -m compileall -q -j 0 src tests bench >/dev/null || true
