#!/bin/sh
# Run the tests of configs and commands against the newest pre-releases of Hydra and OmegaConf and the newest releases of all
# else, in an environment of its own: tests/next.sh [VENV], or make test-next. The exit status is that of the tests, or 3 where
# no pre-release can be had.
set -eu
cd "$(dirname "$0")/.."
venv=${1:-.venv-next}
python=${PYTHON:-python3}
hydra='hydra-core>=1.4.0.dev0'
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
if ! "$python" -m pip download --quiet --disable-pip-version-check --pre --no-deps --dest "$found" "$hydra"; then
    echo "test-next: $hydra cannot be had from the package index of pip's settings, so nothing was tested; see pip config list" >&2
    exit 3
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --upgrade pip
"$venv/bin/python" -m pip install --quiet torch==2.13.0
"$venv/bin/python" -m pip install --quiet --upgrade --editable '.[dev]'
# Without dependencies, because metaloop itself still asks for less than 1.4.
"$venv/bin/python" -m pip install --quiet --upgrade --pre --no-deps "$hydra" 'omegaconf>=2.4.0.dev0'
"$venv/bin/python" -c 'import hydra, omegaconf; print("hydra", hydra.__version__, "omegaconf", omegaconf.__version__)'
OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -n auto --dist loadfile \
    tests/config tests/unit/config tests/unit/cli tests/unit/sweeps/test_compose.py tests/unit/sweeps/test_plan.py
