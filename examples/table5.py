"""Is ALPA better than CE in the paper's Table 5? Bone marrow cells, 17 classes, from the published accuracies.

python examples/table5.py

The paper reports the accuracy of each class, not which images each model classified correctly, which a paired test needs.
The test is therefore computed for three possible pairings of the two models' correct images. See docs/table5.md.
"""

import numpy as np

from tametail.evaluation.paired import describe, paired_table
from tametail.predictions.single_label import Predictions
from tametail.reproduce.published import published_table

table = published_table("5")
classes = table.classes
images = np.array([table.images.test[name] for name in classes])  # the public set without the training images


def hits(column: str) -> np.ndarray:
    """(C,) correctly classified images of a method: the whole number nearest to the published percentage."""
    percent = np.array([float(table.recall[column, name]) for name in classes])
    return np.rint(percent / 100 * images).astype(int)


def model(right: list[np.ndarray]) -> Predictions:
    """A table of predictions as in a study; patients are unknown, so each image is its own group."""
    target = np.repeat(np.arange(len(classes)), images)
    image = np.array([f"{index:05}" for index in range(len(target))])
    predicted = np.where(np.concatenate(right), target, (target + 1) % len(classes))
    logits = np.eye(len(classes), dtype=np.float32)[predicted]
    return Predictions(image, image, target, np.zeros_like(target), logits, classes, "softmax")


def main() -> None:
    """Print the comparison, and the contribution of each class."""
    alpa, ce = hits("ALPA"), hits("CE")
    print(
        f"Balanced accuracy in %: ALPA {100 * np.mean(alpa / images):.2f}, CE {100 * np.mean(ce / images):.2f}\n"
    )
    rng = np.random.default_rng(0)
    own = model([np.arange(n) < k for n, k in zip(images, alpa, strict=True)])
    pairings = {
        "fewest images on which they differ": [np.arange(n) < k for n, k in zip(images, ce, strict=True)],
        "hits paired by chance": [rng.permutation(n) < k for n, k in zip(images, ce, strict=True)],
        "most images on which they differ": [np.arange(n) >= n - k for n, k in zip(images, ce, strict=True)],
    }
    for pairing, right in pairings.items():
        paired = paired_table({"ALPA": [own], "CE": [model(right)]}).pair(0, 1)
        print(f"{pairing} ({paired.discordant:,} of {paired.difference.n:,}):")
        print(f"  {describe(paired, 'ALPA', 'CE')}\n")

    weight = 100 / images / len(classes)  # points that one image moves
    variance = np.abs(alpa - ce) * weight**2  # of random signs, where the fewest images differ
    print("class  images   ALPA     CE  difference adds  one image moves  share of the variance")
    for c in np.argsort(-variance, kind="stable"):
        counts = f"{classes[c]:5} {images[c]:7,} {alpa[c]:6,} {ce[c]:6,}"
        share = 100 * variance[c] / variance.sum()
        print(f"{counts} {(alpa - ce)[c] * weight[c]:+12.2f} pts {weight[c]:12.3f} pts {share:20.1f} %")
    ksc = classes.index("KSC")
    difference = float((alpa - ce) @ weight)
    without = np.delete(100 * (alpa - ce) / images, ksc).mean()
    print(
        f"\nHad the one KSC image gone the other way: {difference - 2 * weight[ksc]:+.2f} points instead of {difference:+.2f}."
    )
    print(f"Without the class KSC: {without:+.2f} points.")


if __name__ == "__main__":
    main()
