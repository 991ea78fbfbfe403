#!/bin/sh
# Install the lowest version of each direct dependency that pyproject.toml allows (torch and torchvision as in
# constraints.txt), and run the commands on a small study with them. Installs into .venv-lowest.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)
venv=$root/.venv-lowest
"${PYTHON:-python3}" -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
links=${UV_FIND_LINKS:-$("$venv/bin/python" -m pip config get global.find-links 2>/dev/null || true)}
links=${links:-${PIP_FIND_LINKS:-}}
UV_FIND_LINKS=$(echo "$links" | tr -s ' ' ',')
export UV_FIND_LINKS
install() {
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" "$@"
}
# These first, as elsewhere: the lowest build of one version would be that for CUDA.
install --no-deps --constraint constraints.txt torch torchvision
"$venv/bin/uv" pip freeze --python "$venv/bin/python" | grep -E '^(torch|torchvision)==' >"$venv/installed.txt"
install --resolution lowest-direct --constraint "$venv/installed.txt" '.[train,offline,dicom,search,tables,hdf5]'

# Away from the sources, so that the installed package runs.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export TAMETAIL_CACHE="$work/cache"
"$venv/bin/python" - <<'PYTHON'
import importlib.metadata as metadata
import re
from pathlib import Path

import numpy as np
import openpyxl
import pydicom
from PIL import Image

for line in metadata.requires("tametail"):
    name = re.match(r"[A-Za-z0-9._-]+", line)[0]
    try:
        print(f"{name} {metadata.version(name)}")
    except metadata.PackageNotFoundError:  # of an extra that is not installed
        continue
rng, sheet = np.random.default_rng(0), openpyxl.Workbook()
sheet.active.append(["image", "label"])
for folder in ("images", "others/common", "others/rare"):
    Path(folder).mkdir(parents=True)
for number in range(90):
    label = ("common", "common", "common", "rare")[number % 4]
    pixels = rng.integers(0, 100, (40, 40, 3)) + (100 if label == "rare" else 0)
    image = Image.fromarray(pixels.astype(np.uint8))
    if number < 60:
        image.save(f"images/{number}.png")
        sheet.active.append([f"{number}.png", label])
    else:
        image.save(f"others/{label}/{number}.png")
sheet.save("images/labels.xlsx")
compressed = Path(pydicom.__file__).parent / "data/test_files/JPEG2000.dcm"
Path("scan.dcm").write_bytes(compressed.read_bytes())
PYTHON

run() {
    echo "tametail $*"
    "$venv/bin/tametail" "$@" >said 2>&1 || {
        cat said
        exit 1
    }
}
set -- images/labels.xlsx --backbone test_efficientnet --weights none --image-size 32 --folds 3 --repeats 1
run inspect images/labels.xlsx
run compare "$@" --methods ce,alpa,ce+la -o study
run compare "$@" --recipe quick --epochs 1 --methods ce,ce+la,ldam+drw -o trained
run recommend "$@" -o recommended
run search "$@" --loss alpa --trials 2 -o searched
run report study --figures png,svg,pdf
run test-set study
run predict study images scan.dcm -o predicted.csv
run evaluate study --data others -o evaluated
run rank study trained -o ranks
echo "All commands ran with the lowest versions."
