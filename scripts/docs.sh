#!/usr/bin/env bash
# Builds the site of the documentation into build/site, without warnings: scripts/docs.sh [serve]
# Creates .venv in the project's root if it is missing and installs the tested versions into it.
set -euo pipefail
cd "$(dirname "$0")/.."
export SMH_EXTRAS="${SMH_EXTRAS:-test,docs}"
source scripts/environment.sh
export NO_MKDOCS_2_WARNING=1
python -m scripts.update_pages --check
if [ "${1:-}" = serve ]; then
    exec mkdocs serve
fi
mkdocs build --strict --site-dir build/site
echo "the site is in build/site/index.html"
