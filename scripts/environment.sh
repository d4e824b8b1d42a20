# Sourced by the other scripts, from the root: makes, fills and activates .venv.
# SMH_EXTRAS names the extras of setup.py to install, such as test.
if [ ! -x .venv/bin/python ]; then
    "${PYTHON:-python3}" -m venv .venv
fi
source .venv/bin/activate
# Installed again only when what is to be installed has changed.
wanted="$(cat setup.py constraints.txt) ${SMH_EXTRAS:-}"
if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
    python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable ".${SMH_EXTRAS:+[$SMH_EXTRAS]}"
    printf '%s' "$wanted" > .venv/installed
fi
