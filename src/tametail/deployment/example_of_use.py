"""Predict images with this exported model. It needs onnxruntime, pillow and numpy alone:

python predict.py image.jpg another.png
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx")
facts = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
classes, side = facts["class_names"], facts["canvas"]


def square(path: str) -> np.ndarray:
    """The centre square of an image as RGB, at the size that the model takes."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    shorter = min(image.size)
    resampling = Image.Resampling.BICUBIC if shorter < side else Image.Resampling.BOX
    return np.asarray(ImageOps.fit(image, (side, side), resampling))


for path in sys.argv[1:]:
    inputs = {"pixels": square(path)[None]}
    if "prevalence" in [one.name for one in session.get_inputs()]:  # all 0: that of the training set
        inputs["prevalence"] = np.zeros(len(classes), np.float32)
    probabilities, scores, _, inside, unlikeness = (one[0] for one in session.run(None, inputs))
    named = {name: round(float(p), 4) for name, p in zip(classes, probabilities)}
    chosen = [name for name, is_in in zip(classes, inside) if is_in]
    warning = "unlike the training images: do not use" if unlikeness > 1 else ""
    print(path, classes[int(scores.argmax())], chosen, named, warning)
