"""Write the demo set with planted faults, an example for `tametail inspect`.

python scripts/faulty_demo.py FOLDER && tametail inspect FOLDER -o inspect.html
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import cv2

from tametail import read_images


def main(folder: Path) -> None:
    table = read_images("demo")
    (folder / "images").mkdir(parents=True)
    frame = table.frame[["image", "label", "group"]].copy()
    for source, image in zip(table.paths, frame["image"], strict=True):
        shutil.copy(source, folder / "images" / Path(image).name)
    frame["image"] = ["images/" + Path(image).name for image in frame["image"]]
    rows = frame.to_dict("records")

    def copy_of(row: int, name: str, **changes: str) -> Path:
        rows.append(rows[row] | {"image": f"images/{name}"} | changes)
        return folder / "images" / name

    for place, row in enumerate((3, 40, 400)):  # the same file for another patient and with another label
        label = rows[row + 5]["label"] if rows[row + 5]["label"] != rows[row]["label"] else "blast"
        shutil.copy(
            folder / rows[row]["image"], copy_of(row, f"again{place}.png", label=label, group=f"new{place}")
        )
    for place, row in enumerate((77, 500)):  # the same image saved again
        pixels = cv2.imread(str(folder / rows[row]["image"]))
        cv2.imwrite(
            str(copy_of(row, f"saved{place}.jpg", group=f"other{place}")),
            pixels,
            [cv2.IMWRITE_JPEG_QUALITY, 60],
        )
    for row in (100, 101):  # a name in the corner
        path = folder / rows[row]["image"]
        pixels = cv2.resize(cv2.imread(str(path)), (384, 384))
        cv2.putText(
            pixels, "DOE JANE 1971", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (20, 20, 20), 2, cv2.LINE_AA
        )
        cv2.imwrite(str(path), pixels)
    for row in (9, 90, 900):  # half a file
        data = (folder / rows[row]["image"]).read_bytes()
        (folder / rows[row]["image"]).write_bytes(data[: len(data) // 2])
    for row in range(200, 212):  # another spelling
        rows[row]["label"] = rows[row]["label"].capitalize()
    lines = ["image,label,group", *(",".join((r["image"], r["label"], r["group"])) for r in rows)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="new folder for images/ and labels.csv")
    main(parser.parse_args().folder)
