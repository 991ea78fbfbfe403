"""The images that a model is given: files, folders, volumes, and images in memory, and their decoding.

Shape legend: N images, K canvas side.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError
from tametail.data import DICOM_SUFFIXES, IMAGE_SUFFIXES, decode_image
from tametail.data.decoding.decode import square_of
from tametail.data.decoding.slices import is_nifti, is_volume, stored_slices

if TYPE_CHECKING:
    from PIL.Image import Image

# One image, or with a path one or a folder of them.
OneImage: TypeAlias = Union[str, Path, "Image", NDArray[Any]]
Images: TypeAlias = OneImage | Sequence[OneImage]
Decoded: TypeAlias = NDArray[np.uint8] | DataError
_AHEAD = 2  # batches that are decoded before they are needed


class FoundImages(NamedTuple):
    """What `find_images` finds.

    Attributes:
        images: paths, each once.
        duplicates: how many of the paths were found again.
        skipped: files in folders that are not images by their names; hidden ones are not counted.
    """

    images: list[Path]
    duplicates: int
    skipped: int


def find_images(paths: Sequence[str | Path], *, volumes: bool = False) -> FoundImages:
    """Find the given images and all images, and NIfTI ``volumes``, below the given folders, sorted; hidden files and folders are ignored.

    Raises:
        DataError: a path does not exist, or a folder has no image.
    """
    found: list[Path] = []
    skipped: set[str] = set()
    known = {*IMAGE_SUFFIXES, *DICOM_SUFFIXES}

    def is_known(file: Path) -> bool:
        return file.suffix.lower() in known or (volumes and is_nifti(file.name))

    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if not _is_hidden(p.relative_to(path)) and p.is_file())
            inside = [file for file in files if is_known(file)]
            if not inside:
                raise DataError(f"expected images in {path}, found none ({', '.join(sorted(known))})")
            found += inside
            skipped |= {os.path.abspath(file) for file in files if not is_known(file)}
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"expected an image or a folder of images at {path}, but nothing is there")
    images: dict[str, Path] = {}
    for image in found:
        images.setdefault(os.path.abspath(image), image)
    return FoundImages(list(images.values()), len(found) - len(images), len(skipped))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def listed(images: Images, *, volumes: bool = False) -> list[OneImage]:
    """One image, a folder, or several of them, as single images in the given order.

    Args:
        images: a path of an image or of a folder; an image of Pillow; an array (H, W) or (H, W, 3), or a batch of them (N, H, W, 3);
            or a sequence of these.
        volumes: whether folders are searched for NIfTI volumes too.

    Raises:
        UsageError: something else.
        DataError: a folder has no image.
    """
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images)
    if _is_one(images):
        images = [images]  # type: ignore[list-item]
    if isinstance(images, np.ndarray):
        if images.ndim != 1 or images.dtype.kind not in "OUS":
            raise UsageError(
                f"expected images as arrays (H, W), (H, W, 3) or (N, H, W, 3) of whole numbers or floats, got {_kind(images)}"
            )
        images = images.tolist()  # of paths
    if not isinstance(images, Sequence):
        try:
            images = list(images)  # type: ignore[arg-type]
        except TypeError:
            raise UsageError(
                f"expected images as paths, images of Pillow or arrays, or a list of these, got {type(images).__name__}"
            ) from None
    found: list[OneImage] = []
    for image in images:
        if not _is_one(image):
            raise UsageError(
                f"expected each image as a path, an image of Pillow or an array (H, W) or (H, W, 3), got {_kind(image)}"
            )
        if isinstance(image, os.PathLike):
            image = Path(os.fspath(image))
        if isinstance(image, str | Path) and os.path.isdir(image):
            found += find_images([image], volumes=volumes).images
        else:
            found.append(image)
    return found


def _is_one(image: object) -> bool:
    if isinstance(image, np.ndarray):
        return image.ndim in {2, 3} and image.dtype.kind in "uif"
    return isinstance(image, str | os.PathLike) or (hasattr(image, "convert") and hasattr(image, "size"))


def _kind(image: object) -> str:
    return (
        f"an array {image.shape} of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
    )


def names_of(images: Sequence[OneImage]) -> list[str]:
    """A name for each image: its path, or its position, as ``image 3``."""
    return [str(image) if is_file(image) else f"image {at}" for at, image in enumerate(images)]


def is_file(image: OneImage) -> bool:
    """Whether an image is given by its path."""
    return isinstance(image, str | os.PathLike)


def largest_values(images: Sequence[OneImage]) -> list[int]:
    """The largest value of each grey image in memory of more than 8 bits."""
    arrays = [
        image if isinstance(image, np.ndarray) else _deep(image) for image in images if not is_file(image)
    ]
    return [int(each.max()) for each in arrays if each is not None and each.dtype == np.uint16 and each.size]


def _deep(image: Any) -> NDArray[Any] | None:
    """The values of an image of Pillow of 16 bits; None for others, and where they cannot be read."""
    if not str(image.mode).startswith("I;16"):
        return None
    try:
        return np.asarray(image).astype(np.uint16)
    except Exception:  # noqa: BLE001 - decoding says why
        return None


def slices_of(
    images: Sequence[OneImage], rule: str | None, console: Console
) -> tuple[list[OneImage], list[str]]:
    """The images with volumes replaced by their slices, and their names. Volumes that cannot be read stay, with a warning."""
    files: list[OneImage] = []
    names: list[str] = []
    for image, name in zip(images, names_of(images), strict=True):
        files.append(image)
        names.append(name)
        if rule is None or not is_file(image):
            continue
        path = Path(image).absolute()  # type: ignore[arg-type]
        try:
            if not path.is_file() or not is_volume(path):
                continue
            place, (slices,), _ = stored_slices(path.parent, [path.name], rule)
        except DataError as error:
            console.warn(str(error))
            continue
        files[-1:] = [place / each for each in slices]
        names[-1:] = [f"{name}{each.removeprefix(path.name)}" for each in slices]
    return files, names


def decoded_ahead(
    images: Sequence[OneImage], side: int, bit_depth: int | None, size: int
) -> Iterator[list[Decoded]]:
    """Batches of the pixels (K, K, 3) of images, or why they cannot be read; the next ones are decoded in the meantime."""
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(_decoded, batch, side, bit_depth) for batch in batches[:_AHEAD]]
        for at in range(len(batches)):
            found = waiting.pop(0).result()
            if at + _AHEAD < len(batches):
                waiting.append(pool.submit(_decoded, batches[at + _AHEAD], side, bit_depth))
            yield found


def _decoded(images: Sequence[OneImage], side: int, bit_depth: int | None) -> list[Decoded]:
    found: list[Decoded] = []
    for image in images:
        try:
            if isinstance(image, str | Path):
                found.append(decode_image(Path(image), side, bit_depth=bit_depth))
            else:
                found.append(square_of(image, side, bit_depth=bit_depth))
        except DataError as error:
            found.append(error)
    return found
