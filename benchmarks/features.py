"""Features of a frozen backbone: images per second of a plain loop, of ours, of other runtimes, and the machine's limit.

python benchmarks/features.py [--backbone NAME] [--images 256] [--rounds 5] [-o docs/results/features-speed.md]

Each side runs in a process of its own, as the C library's memory settings are the process's; the sides alternate, round after
round, and each ratio is within a round. Only the loop over images is timed, without imports and start-up. The limit is the
number of multiplications and additions of the network's layers at the speed of a large matrix product. Weights are random,
and images as well: neither changes the speed.

Exits 1 if ours is less than 1.6 times the plain loop or reaches less than 40 % of the limit.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from losses import machine
from tametail.models.backbones import BackboneSpec, build_backbone, channels_last
from tametail.training.hardware import make_accelerator
from tametail.training.inference import predict_logits
from tametail.training.recipe import FeatureSettings, Recipe, load_recipe
from tametail.training.training_data import backbone_of, evaluation_transform, frozen

LEAST_OVER_LOOP, LEAST_OF_LIMIT = 1.6, 0.4
BATCH = 16
NEEDS = {"ONNX Runtime": ("onnx", "onnxscript", "onnxruntime")}
Loop = Callable[[NDArray[np.uint8]], object]


def network_of(recipe: Recipe) -> tuple[BackboneSpec, torch.nn.Module]:
    spec = backbone_of(recipe)
    torch.manual_seed(0)
    return spec, build_backbone(spec, "none").eval()


def own_features(recipe: Recipe) -> Recipe:
    """The recipe without features of the stages."""
    return recipe.model_copy(update={"features": FeatureSettings()})


def batches(pixels: NDArray[np.uint8], spec: BackboneSpec, network: Callable[[Tensor], object]) -> None:
    """The plain loop over batches."""
    transform = evaluation_transform(spec)
    with torch.inference_mode():
        for start in range(0, len(pixels), BATCH):
            network(transform(torch.from_numpy(pixels[start : start + BATCH]), None))


def plain_loop(recipe: Recipe) -> Loop:
    """The network's own features, in the memory format that is fastest."""
    spec, network = network_of(own_features(recipe))
    network = channels_last(network)
    return lambda pixels: batches(pixels, spec, network)


def ours(recipe: Recipe) -> Loop:
    """What ``tametail compare`` does: features of all stages."""
    spec, network = network_of(recipe)
    network, accelerator = frozen(network, spec), make_accelerator(recipe, "cpu")
    transform = evaluation_transform(spec)
    return lambda pixels: predict_logits(
        network, pixels, np.arange(len(pixels)), accelerator, transform=transform, batch_size=BATCH
    )


def compiled(recipe: Recipe) -> Loop:
    """The plain loop with torch.compile."""
    spec, network = network_of(own_features(recipe))
    quick = torch.compile(channels_last(network))
    return lambda pixels: batches(pixels, spec, quick)


def onnx_runtime(recipe: Recipe) -> Loop:
    """The plain loop with ONNX Runtime."""
    import onnxruntime

    spec, network = network_of(own_features(recipe))
    example = torch.zeros(BATCH, 3, spec.image_size, spec.image_size)
    exported = torch.onnx.export(network, (example,), dynamo=True, verbose=False)
    assert exported is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(exported.model_proto.SerializeToString(), options)
    name = session.get_inputs()[0].name
    return lambda pixels: batches(
        pixels, spec, lambda images: session.run(None, {name: images.contiguous().numpy()})
    )


SIDES = {"plain loop": plain_loop, "ours": ours, "torch.compile": compiled, "ONNX Runtime": onnx_runtime}


def operations(recipe: Recipe) -> int:
    """Multiplications and additions of one image."""
    spec, network = network_of(recipe)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, spec.image_size, spec.image_size))
    return int(counter.get_total_flops())


def product_speed() -> float:
    """Operations per second of a large matrix product, the best of several."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * 2048**3 / best


def measure(side: str, recipe: Recipe, images: int) -> dict[str, float]:
    """Images per second of a side, and the limit, in this process."""
    canvas = backbone_of(recipe).canvas
    pixels = np.random.default_rng(0).integers(0, 256, (images, canvas, canvas, 3), dtype=np.uint8)
    loop = SIDES[side](recipe)
    loop(pixels[: 2 * BATCH])
    limit = product_speed() / operations(recipe)
    began = time.perf_counter()
    loop(pixels)
    return {"speed": images / (time.perf_counter() - began), "limit": limit}


def spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def main() -> int:
    """Measure, print, and say whether it is good enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--out", type=Path, help="also write the page to this file")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    recipe = load_recipe("head", fields={"backbone": asked.backbone, "weights": "none"})
    if asked.side:
        print(json.dumps(measure(asked.side, recipe, asked.images)))
        return 0
    known = [side for side in SIDES if all(map(importlib.util.find_spec, NEEDS.get(side, ())))]
    found: dict[str, list[dict[str, float]]] = {side: [] for side in known}
    images = -(-asked.images // BATCH) * BATCH
    command = [sys.executable, __file__, "--backbone", asked.backbone, "--images", str(images)]
    for _ in range(max(asked.rounds, 2)):
        for side in list(found):
            done = subprocess.run([*command, "--side", side], capture_output=True, text=True)
            if done.returncode and side in {"plain loop", "ours"}:
                raise SystemExit(done.stderr)
            if done.returncode:
                print(f"{side} is left out: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
                del found[side]
            else:
                found[side].append(json.loads(done.stdout.splitlines()[-1]))
    spec = backbone_of(recipe)
    rows, good = [], True
    for side, results in found.items():
        over = [
            own["speed"] / plain["speed"] for own, plain in zip(results, found["plain loop"], strict=True)
        ]
        share = [own["speed"] / own["limit"] for own in results]
        rows.append(
            f"| {side} | {spec.features if side == 'ours' else spec.blocks[0]:,} | "
            f"{statistics.median(each['speed'] for each in results):.0f} | {spread(over)} | {spread(share)} |"
        )
        if side == "ours":
            good = statistics.median(over) >= LEAST_OVER_LOOP and statistics.median(share) >= LEAST_OF_LIMIT
    text = "\n".join(
        [
            "# Speed of features",
            "",
            "    python benchmarks/features.py    (make bench-features)",
            "",
            f"Machine: {machine('cpu')}. {asked.backbone} at {spec.image_size} px, {asked.images} decoded images in batches of "
            f"{BATCH}, float32. The limit is {operations(recipe) / 1e9:.2f} billion operations per image at the speed of a "
            f"matrix product in the same process. Sides alternate in processes of their own; ratios are within a round, with "
            f"quartiles (n = {asked.rounds} rounds).",
            "",
            "| | features | images/s | × the plain loop | of the limit |",
            "|---|---:|---:|---:|---:|",
            *rows,
            "",
            "The plain loop, torch.compile and ONNX Runtime compute the network's own features; ours computes those of all stages, "
            "with batch normalisation folded into the convolutions and freed memory kept.",
            "",
        ]
    )
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
