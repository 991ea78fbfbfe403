"""Forward and backward time, and peak extra memory, of the losses, compared with torch's losses and the released forms.

python benchmarks/losses.py [--device cuda] [--quick] [-o docs/results/losses.md]

All losses of a table alternate within one process, and each ratio is within a round: a
busy machine slows both. Times are medians over the rounds.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from tametail.losses import create_loss, list_losses
from tametail.losses.base import Loss

_RIVALS = ("alpa as released", "alpa as released, compiled", "asl, optimised in place")
SIZES = ((128, 7), (256, 52), (4096, 1000), (1024, 9605))
Call = Callable[[Tensor, Tensor], Tensor]


class Contender(NamedTuple):
    """A loss to be timed, what its target is, ``index`` (B,) or ``multi-hot`` (B, C), and torch's loss of its kind."""

    name: str
    call: Call
    target: str
    dtype: torch.dtype = torch.float32
    of_torch: str = "torch bce"


def torch_bce(logits: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, labels)


def torch_ce(logits: Tensor, index: Tensor) -> Tensor:
    return F.cross_entropy(logits, index)


def released_alpa(logits: Tensor, labels: Tensor) -> Tensor:
    """The way of the released code: sigmoid, clip, powers of tensors, and automatic differentiation."""
    p = torch.sigmoid(logits)
    rest = (1 - p + 0.05).clamp(max=1)
    positive = 0.875 * labels * rest.pow(0) * (1.5 * p - 1.5)
    negative = 1.625 * (1 - labels) * p.pow(4) * (rest - 1)
    true_p = p * labels + rest * (1 - labels)
    weight = (1 - true_p).pow(0 * labels + 4 * (1 - labels))
    return -((positive + negative) * weight).sum()


def plain_asl(logits: Tensor, labels: Tensor) -> Tensor:
    """ASL in plain operations as usually written: sigmoid, clip, clamped logarithms, power of a tensor."""
    p = torch.sigmoid(logits)
    rest = (1 - p + 0.05).clamp(max=1)
    value = labels * p.clamp(min=1e-8).log() + (1 - labels) * rest.clamp(min=1e-8).log()
    true_p = p * labels + rest * (1 - labels)
    return -(value * (1 - true_p).pow(1 * labels + 4 * (1 - labels))).sum()


def asl_in_place(logits: Tensor, labels: Tensor) -> Tensor:
    """ASL as optimised for training: buffers are reused, and the focusing weight has no gradient."""
    p = torch.sigmoid(logits)
    rest = (1 - p).add_(0.05).clamp_(max=1)
    value = labels * p.clamp(min=1e-8).log()
    value.add_((1 - labels) * rest.clamp(min=1e-8).log())
    with torch.no_grad():
        easy = (p * labels).add_(rest * (1 - labels)).neg_().add_(1)
        weight = torch.pow(easy, 1 * labels + 4 * (1 - labels))
    return -(value * weight).sum()


_compiled: list[Call] = []


def compiled_alpa(logits: Tensor, labels: Tensor) -> Tensor:
    """The released form through torch.compile, which fuses its operations."""
    if not _compiled:
        _compiled.append(torch.compile(released_alpa, dynamic=True))
    return _compiled[0](logits, labels)


def by_plain_operations(loss: Loss) -> Call:
    """Our own loss without its one pass."""
    return lambda logits, target: Loss.forward(loss, logits, target)


def contenders() -> list[Contender]:
    alpa, asl = create_loss("alpa"), create_loss("asl")
    fractions = {"gamma_pos": 0.5, "gamma_neg": 2.5}
    found = [
        Contender("torch bce", torch_bce, "multi-hot"),
        Contender("alpa as released", released_alpa, "multi-hot"),
        Contender("alpa as released, compiled", compiled_alpa, "multi-hot"),
        Contender("asl in plain operations", plain_asl, "multi-hot"),
        Contender("asl, optimised in place", asl_in_place, "multi-hot"),
    ]
    for target in ("index", "multi-hot"):
        found += [Contender("alpa", alpa, target), Contender("asl", asl, target)]
    found += [
        Contender("alpa, variant code", create_loss("alpa", variant="code"), "index"),
        Contender("alpa, variant pade 1/1", create_loss("alpa", variant="pade"), "index"),
        Contender("alpa, fractional gammas", create_loss("alpa", **fractions), "index"),
        Contender("asl, fractional gammas", create_loss("asl", **fractions), "index"),
        Contender("torch bce, bfloat16", torch_bce, "multi-hot", torch.bfloat16),
        Contender("alpa, bfloat16", alpa, "index", torch.bfloat16),
        Contender("asl, bfloat16", asl, "index", torch.bfloat16),
        Contender("alpa by our plain operations", by_plain_operations(alpa), "index"),
        Contender("asl by our plain operations", by_plain_operations(asl), "index"),
    ]
    return found


def all_others(classes: int) -> list[Contender]:
    counts = torch.logspace(4, 0.5, classes).round().long()
    found = [Contender("torch bce", torch_bce, "multi-hot"), Contender("torch ce", torch_ce, "index")]
    found[1] = found[1]._replace(of_torch="torch ce")
    for name in list_losses():
        loss = create_loss(name, class_counts=counts)
        kind = "torch ce" if loss.family == "softmax" else "torch bce"
        found.append(Contender(name, loss, "index", of_torch=kind))
    return found


class Result(NamedTuple):
    """Seconds of each round, and the peak of memory beyond the gradient, in bytes."""

    seconds: list[float]
    extra: int


def measure(
    some: list[Contender], size: tuple[int, int], device: str, rounds: int
) -> dict[Contender, Result]:
    """All contenders in turn, round after round."""
    steps = {contender: step(contender, size, device) for contender in some}
    repeats = max(1, 200_000 // (size[0] * size[1]))
    seconds: dict[Contender, list[float]] = {contender: [] for contender in some}
    for done in range(rounds + 2):
        for contender, run in steps.items():
            wait(device)
            started = time.perf_counter()
            for _ in range(repeats):
                run()
            wait(device)
            if done >= 2:  # the first two warm up
                seconds[contender].append((time.perf_counter() - started) / repeats)
    return {c: Result(seconds[c], extra_memory(steps[c], size, c.dtype, device)) for c in some}


def step(contender: Contender, size: tuple[int, int], device: str) -> Callable[[], None]:
    """One forward and backward on fixed logits; three labels of a thousand, at most three a row, are ones."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(size, generator=generator) * 2
    index = torch.randint(0, size[1], (size[0],), generator=generator)
    labels = F.one_hot(index, size[1]).bool() | (torch.rand(size, generator=generator) < 2 / size[1])
    leaf = logits.to(device, contender.dtype).requires_grad_()
    target = index.to(device) if contender.target == "index" else labels.to(device, contender.dtype)

    def run() -> None:
        leaf.grad = None
        contender.call(leaf, target).backward()

    return run


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def extra_memory(run: Callable[[], None], size: tuple[int, int], dtype: torch.dtype, device: str) -> int:
    """The peak of what one step allocates, less the gradient itself."""
    gradient = size[0] * size[1] * dtype.itemsize
    if device == "cuda":
        before = torch.cuda.memory_allocated() - gradient
        torch.cuda.reset_peak_memory_stats()
        run()
        return int(torch.cuda.max_memory_allocated() - before - gradient)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = profiled.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    live = gradient_freed = peak = 0
    for _, change in changes:
        live += change
        peak = max(peak, live - gradient_freed)
        if live < gradient_freed:  # the gradient of the step before goes first
            gradient_freed = live
    return max(peak - gradient, 0)


def copy_bandwidth(size: tuple[int, int], device: str) -> float:
    """Bytes read and written per second by a copy of the logits: the limit of any pass."""
    source = torch.randn(size, device=device)
    goal = torch.empty_like(source)
    best = float("inf")
    for _ in range(20):
        wait(device)
        started = time.perf_counter()
        goal.copy_(source)
        wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * source.numel() * source.itemsize / best


def table(results: dict[Contender, Result], size: tuple[int, int], bandwidth: float | None) -> Iterator[str]:
    """Markdown lines."""
    others = [name for name in _RIVALS if name in {contender.name for contender in results}]
    yield f"| loss | target | / torch's | {''.join(f'/ {name} | ' for name in others)}ms | extra memory | share of limit |"
    yield f"|---|---|---:|{'---:|' * len(others)}---:|---:|---:|"
    rivals = {c.name: r for c, r in results.items()}
    gradient = size[0] * size[1] * 4
    for contender, result in results.items():
        ratios = [ratio(result, rivals[rival]) for rival in (contender.of_torch, *others)]
        share = "" if bandwidth is None else f"{moved(contender, size) / bandwidth / median(result):.0%}"
        yield (
            f"| {contender.name} | {contender.target} | {' | '.join(ratios)} | {median(result) * 1e3:.3f} "
            f"| {result.extra / gradient:.2f} | {share} |"
        )


def moved(contender: Contender, size: tuple[int, int]) -> int:
    """Bytes that must be moved: logits and a matrix of labels read, the gradient written."""
    passes = 2 if contender.target == "index" else 3
    return passes * size[0] * size[1] * contender.dtype.itemsize


def ratio(result: Result, rival: Result | None) -> str:
    """Median of the ratios within rounds, with their quartiles."""
    if rival is None:
        return ""
    each = [a / b for a, b in zip(result.seconds, rival.seconds, strict=True)]
    low, middle, high = statistics.quantiles(each, n=4)
    return f"{middle:.3g} ({low:.3g}–{high:.3g})"


def median(result: Result) -> float:
    return statistics.median(result.seconds)


def machine(device: str) -> str:
    if device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        cpuinfo = Path("/proc/cpuinfo")
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else platform.processor()
        name += f", {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return f"{name}; torch {torch.__version__}, Python {platform.python_version()}"


def report(device: str, quick: bool) -> Iterator[str]:
    """The whole page, line by line, as it is measured."""
    yield "# The losses: time and memory of forward and backward\n"
    yield f"    python benchmarks/losses.py{' --device cuda' if device == 'cuda' else ''}    (make bench-losses)\n"
    yield f"Machine: {machine(device)}.\n"
    yield (
        "Ratios are within rounds in which all losses of a table alternate; median and quartiles. Extra memory is "
        "the peak beyond the gradient itself, in gradients. Torch's is F.cross_entropy for losses whose classes share one "
        "softmax, else F.binary_cross_entropy_with_logits. “As released” and “plain” are the losses as in their released "
        "code: sigmoid, clamp, powers of tensors, automatic differentiation. Target index is one class per sample, "
        "multi-hot a matrix of labels; torch's BCE and the released losses take a matrix. Tensors of 128 × 7 are far below "
        "the size from which the C library requests memory from the system for each, those of 4096 × 1000 above it."
    )
    for size in SIZES:
        large = size[0] * size[1] > 1e6
        rounds = 5 if quick else 21 if large else 41
        bandwidth = copy_bandwidth(size, device) if large else None
        yield f"\n### {size[0]} × {size[1]}\n"
        if bandwidth:
            yield f"A copy moves {bandwidth / 1e9:.1f} GB/s here; the limit is one pass at that speed.\n"
        yield from table(measure(contenders(), size, device, rounds), size, bandwidth)
        yield "\nAll losses:\n"
        yield from table(measure(all_others(size[1]), size, device, 3 if quick else 7), size, bandwidth)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    parser.add_argument("-o", "--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    lines = []
    for line in report(options.device, options.quick):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
