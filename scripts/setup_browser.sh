#!/bin/sh
# Puts what drives a browser into .venv, and looks for a Chromium to be driven. It installs none by itself:
# only with --install-chromium, as on a machine that is thrown away after its tests, and then by apt-get.
# Exit code 3: there is no Chromium or nothing to drive it, and none could be installed.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/python -c 'import axe_playwright_python, playwright' 2>/dev/null || {
    echo "Adding Playwright and axe-core to .venv ..."
    .venv/bin/python -m uv pip install --quiet --python .venv/bin/python --constraint constraints.txt --group browser ||
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group browser ||
        {
            echo "What drives a browser cannot be installed here." >&2
            exit 3
        }
}

found() {
    [ -n "${TAMETAIL_CHROMIUM:-}" ] || command -v chromium || command -v chromium-browser ||
        command -v google-chrome || command -v google-chrome-stable || command -v chrome
}
found >/dev/null && exit 0
if [ "${1:-}" = --install-chromium ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing Chromium by apt-get ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null || true
    found >/dev/null && exit 0
fi
echo "No Chromium was found. Install one (on Debian: apt-get install chromium), or name one in TAMETAIL_CHROMIUM." >&2
exit 3
