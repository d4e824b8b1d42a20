#!/usr/bin/env bash
# Trains a compressed ResNet on real images: scripts/quickstart.sh [workdir]
# Creates .venv in the project's root if it is missing and installs the tested versions into it.
set -euo pipefail
workdir=$(realpath -m "${1:-runs/digits}")
cd "$(dirname "$0")/.."
# With what the README's pictures and exports need.
export SMH_EXTRAS="${SMH_EXTRAS:-onnx,plot}"
source scripts/environment.sh
python -m smh_jax.main --config=configs/digits.py --workdir="$workdir"
python - "$workdir" <<'PYTHON'
import json
import pathlib
import sys

result = json.loads((pathlib.Path(sys.argv[1]) / "result.json").read_text())
share = result["num_variables"] / result["num_weights"]
print(
    f"test accuracy {100 * result['test_accuracy']:.2f}% on {result['test_examples']} digits with "
    f"{result['num_variables']:,} variables for {result['num_weights']:,} weights ({share:.1%}), "
    f"trained in {result['train_seconds']:.0f} s"
)
PYTHON
