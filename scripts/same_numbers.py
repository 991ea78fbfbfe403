"""Check that two results.csv contain the same numbers, digit for digit; columns may have been renamed.

    python scripts/same_numbers.py OLD.csv NEW.csv --rename old_column=new_column ...

Rows are matched by the first column. Exits 1 if a cell differs, or a column or row is missing in one file.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path


def read(path: Path, renamed: dict[str, str]) -> tuple[str, dict[str, dict[str, str]]]:
    """The name of the first column, and the rows by its value; columns under their new names."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{renamed.get(key, key): value for key, value in row.items()} for row in csv.DictReader(file)]
    key = next(iter(rows[0]))
    return key, {row[key]: row for row in rows}


def main() -> int:
    """Print the differences; return 1 if there are any."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW")
    options = parser.parse_args()
    renamed = dict(text.split("=", 1) for text in options.rename)
    (key, old), (new_key, new) = read(options.old, renamed), read(options.new, {})
    found = [] if key == new_key else [f"first column: {key} and {new_key}"]
    found += [f"row {name}: only in one file" for name in sorted(old.keys() ^ new.keys())]
    cells = 0
    for name in sorted(old.keys() & new.keys()):
        found += [
            f"{name}: column {column} only in one file"
            for column in sorted(old[name].keys() ^ new[name].keys())
        ]
        for column in sorted(old[name].keys() & new[name].keys()):
            cells += 1
            if old[name][column] != new[name][column]:
                found.append(f"{name}, {column}: {old[name][column]} and {new[name][column]}")
    for line in found:
        print(line)
    print(f"{cells} cells compared, {len(found)} differences")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
