#!/bin/sh
# Install Playwright and axe-core into .venv and look for an installed Chromium.
# With --install-chromium (for disposable machines) Chromium is installed by apt-get.
# Exit code 3: Chromium or Playwright is missing and could not be installed.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/python -c 'import axe_playwright_python, playwright' 2>/dev/null || {
    echo "Adding Playwright and axe-core to .venv ..."
    .venv/bin/python -m uv pip install --quiet --python .venv/bin/python --constraint constraints.txt --group browser ||
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group browser ||
        {
            echo "Playwright cannot be installed." >&2
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
echo "Chromium was not found. Install it (Debian: apt-get install chromium), or set TAMETAIL_CHROMIUM to its path." >&2
exit 3
