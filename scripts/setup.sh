#!/bin/sh
# Create .venv and install the project with everything that the demo and the tests need.
# uv is tried first, as it installs in seconds; it gets pip's find-links, so that it finds the same local wheels
# (such as a CPU build of torch). Plain pip is the fallback.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "tametail needs Python 3.11 or newer; '$python' is $("$python" --version 2>&1). Set PYTHON=/path/to/python3.11" >&2
    exit 1
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=".venv/bin/python -m pip"
links=${UV_FIND_LINKS:-$($pip config get global.find-links 2>/dev/null || true)}
links=${links:-${PIP_FIND_LINKS:-}}
extras='.[train,offline,dicom,search,tables,hdf5,export]'

install_with_uv() {
    $pip install --quiet --disable-pip-version-check uv || return 1
    # Compile bytecode as pip does: in a read-only environment every command would otherwise compile its imports again.
    UV_FIND_LINKS=$(echo "$links" | tr -s ' ' ',') .venv/bin/uv pip install --quiet --python .venv/bin/python \
        --compile-bytecode --constraint constraints.txt --group dev --editable "$extras"
}
install_with_pip() {
    $pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' || return 1
    $pip install --quiet --disable-pip-version-check --constraint constraints.txt --group dev --editable "$extras"
}
echo "Setting up .venv (once) ..."
install_with_uv || {
    echo "uv could not install the project; trying plain pip ..." >&2
    install_with_pip
}
touch .venv/.installed
