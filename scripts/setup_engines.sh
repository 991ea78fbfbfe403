#!/bin/sh
# For make prove-engines: Ray in .venv-engines, on top of .venv, and Slurm by apt-get where that is possible.
# What cannot be installed is left out; prove_engines.py says what it could not run.
set -eu
cd "$(dirname "$0")/.."
if [ ! -x .venv-engines/bin/python ] || ! .venv-engines/bin/python -c 'import ray' 2>/dev/null; then
    echo "Installing Ray into .venv-engines ..."
    .venv/bin/python -m venv .venv-engines
    packages=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    own=$(.venv-engines/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "import site; site.addsitedir('$packages')" >"$own/tametail-env.pth"
    .venv-engines/bin/python -m pip install --quiet --disable-pip-version-check 'ray>=2.40' ||
        echo "Ray cannot be installed." >&2
fi
command -v slurmctld >/dev/null && command -v munged >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing Slurm by apt-get ..."
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null; } ||
        echo "Slurm cannot be installed." >&2
fi
