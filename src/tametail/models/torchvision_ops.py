"""Makes ``import torchvision`` (and so timm) succeed where torchvision's C++ extension cannot be loaded.

PyPI's torchvision is built for CUDA. With a CPU build of torch its extension fails to load, and the import raises
"operator torchvision::nms does not exist". Declaring the two missing operators without an implementation is enough.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch

_OPERATOR = "{}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # keeps the operators alive


def ensure_importable() -> None:
    """Declare torchvision's missing operators if its extension does not load. Call it before importing timm."""
    if _declared or "torchvision" in sys.modules or _extension_loads():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(_OPERATOR.format(name))
    _declared.append(library)


def _extension_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # not installed: the import raises its own error
    for extension in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(extension))
        except (OSError, ImportError):
            return False
        return True
    return sys.platform == "win32"  # there it is a .pyd, which torchvision loads itself
