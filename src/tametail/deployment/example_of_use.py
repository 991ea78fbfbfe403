"""Predict images with this exported model. It needs onnxruntime, pillow and numpy alone: python predict.py a.jpg b.png

First see whether the files are complete: sha256sum --check checksums.txt
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
facts = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
classes, side = facts["class_names"], facts["canvas"]


def weights(n: int) -> np.ndarray:
    """How much of each of n pixels is in each of the model's: means of areas, or cubic if they are smaller, as in training."""
    d = np.abs((np.arange(side)[:, None] + 0.5) * n / side - 0.5 - np.arange(n))
    if n > side:
        w = np.clip(1 - d if 4 * n <= 5 * side else (n / side + 1) / 2 - d, 0, 1)
    else:
        w = np.where(d < 1, (1.25 * d - 2.25) * d**2 + 1, np.where(d < 2, -0.75 * (d - 1) * (d - 2) ** 2, 0))
    return w / w.sum(axis=1, keepdims=True)


def square(path: str) -> np.ndarray:
    """The centre square of an image as RGB (side, side, 3), at the size that the model takes."""
    image = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    n = min(image.shape[:2])
    top, left = (np.array(image.shape[:2]) - n) // 2
    resized = np.einsum(
        "ai,ijc,bj->abc", weights(n), image[top : top + n, left : left + n], weights(n), optimize=True
    )
    return np.rint(resized.clip(0, 255)).astype(np.uint8)


for path in sys.argv[1:]:
    inputs = {"pixels": square(path)[None]}
    if "prevalence" in [one.name for one in session.get_inputs()]:  # all 0: that of the training set
        inputs["prevalence"] = np.zeros(len(classes), np.float32)
    probabilities, scores, _, inside, unlikeness = (one[0] for one in session.run(None, inputs))
    named = {name: round(float(p), 4) for name, p in zip(classes, probabilities)}
    chosen = [name for name, is_in in zip(classes, inside) if is_in]
    print(
        path,
        classes[int(scores.argmax())],
        chosen,
        named,
        "unlike the training images" * bool(unlikeness > 1),
    )
