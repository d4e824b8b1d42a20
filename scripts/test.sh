#!/usr/bin/env bash
# Lints and tests: scripts/test.sh [--slow] [arguments of pytest]
# Creates .venv in the project's root if it is missing and installs the tested versions into it.
set -euo pipefail
cd "$(dirname "$0")/.."
SMH_EXTRAS="test,docs"
source scripts/environment.sh
selection=(-m "not slow")
if [ "${1:-}" = "--slow" ]; then
    selection=()
    shift
fi
ruff check .
ruff format --check .
python -m pytest --numprocesses=2 --dist=worksteal "${selection[@]}" "$@"
