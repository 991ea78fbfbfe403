"""Stored values of a DICOM image → displayed values: rescale, window, palette, inversion (DICOM PS3.3, C.11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import BoolArray, FloatArray
from tametail.core.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

_RESCALE = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
_WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
_PALETTE = tuple(
    f"{segmented}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
DISPLAY_TAGS = (
    "Modality", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *_RESCALE, *_WINDOW, *_PALETTE,
)  # fmt: skip
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # pydicom gives RGB for all of them


def displayed(pixels: NDArray[Any], header: Dataset, frame: int) -> NDArray[Any]:
    """Apply the display attributes of the header (those in `DISPLAY_TAGS`) to the stored values of one frame.

    Args:
        pixels: (H, W) or (H, W, 3) stored values, colours already RGB.

    Returns:
        (H, W) float32 from 0 (black) to 255, not rounded, or (H, W, 3) uint8.

    Raises:
        DataError: the photometric interpretation is not supported, or values are not numbers.
    """
    kind = str(header.get("PhotometricInterpretation") or "").strip().upper()
    if kind == "PALETTE COLOR":
        return _palette(pixels, header)
    if kind in _COLOURS and pixels.ndim == 3:
        return _to_uint8(pixels, int(header.get("BitsStored") or 8))
    if kind not in {"MONOCHROME1", "MONOCHROME2", ""} or pixels.ndim != 2:
        raise DataError(f"DICOM pixels of photometric interpretation {kind or 'unknown'} are not supported")
    return _grey(pixels, header, frame, inverted=kind == "MONOCHROME1")


def _palette(pixels: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut

    colours = apply_color_lut(pixels, header)[..., :3]
    depth = int(header["RedPaletteColorLookupTableDescriptor"].value[2])
    return _to_uint8(colours, depth if colours.dtype.itemsize > 1 else 8)


def _to_uint8(colours: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    if colours.dtype == np.uint8 and bits == 8:
        return colours
    levels = np.clip(colours.astype(np.float32) * (255 / (2**bits - 1)), 0, 255)
    return np.asarray(np.rint(levels), dtype=np.uint8)


def _grey(pixels: NDArray[Any], header: Dataset, frame: int, *, inverted: bool) -> NDArray[np.float32]:
    padding = _padding(pixels, header)
    rescale = _functional_group(header, frame, "PixelValueTransformationSequence", _RESCALE)
    window = _functional_group(header, frame, "FrameVOILUTSequence", _WINDOW)
    values, rescaled = _rescaled(pixels, rescale)
    if not np.isfinite(values).all():
        raise DataError("it holds values that are not numbers")
    levels = _windowed(values, window)
    if levels is None:
        levels = _stretched(values, padding, header, rescaled=rescaled)
    if inverted:
        levels = 255 - levels
    if padding is not None:
        levels[padding] = 0
    return levels


def _functional_group(header: Dataset, frame: int, macro: str, names: tuple[str, ...]) -> Dataset:
    """The data set with the attributes of a frame: enhanced objects have them per frame or shared, others at the top."""
    if any(name in header for name in names):
        return header
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    for group in (*per_frame[frame : frame + 1], *shared[:1]):
        if group.get(macro):
            found: Dataset = group[macro].value[0]
            return found
    return header


def _padding(pixels: NDArray[Any], header: Dataset) -> BoolArray | None:
    """(H, W) mask of the padding by the stored values (PS3.3 C.7.5.1.1.2), None if there is none."""
    ends = [header.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    given = [end for end in ends if isinstance(end, int | float)]
    if not given or ends[0] is None:
        return None
    if pixels.dtype.kind == "i":  # signed pixels are often declared by the unsigned number of the same bits
        most, range_ = np.iinfo(pixels.dtype).max, float(2 ** (8 * pixels.dtype.itemsize))
        given = [end - range_ if end > most else end for end in given]
    outside: BoolArray = (pixels >= min(given)) & (pixels <= max(given))
    return outside if outside.any() else None


def _rescaled(pixels: NDArray[Any], attributes: Dataset) -> tuple[NDArray[np.floating[Any]], bool]:
    """Values in the units of the modality, and whether they changed. 16 bits are exact in float32."""
    exact: Any = np.float32 if pixels.dtype.itemsize <= 2 else np.float64
    if attributes.get("ModalityLUTSequence"):
        return _looked_up(pixels, attributes.ModalityLUTSequence[0]).astype(exact), True
    slope = _number(attributes.get("RescaleSlope"), 1.0)
    intercept = _number(attributes.get("RescaleIntercept"), 0.0)
    values = pixels.astype(exact)
    if (slope, intercept) == (1.0, 0.0) or slope == 0:
        return values, False
    return values * exact(slope) + exact(intercept), True


def _windowed(values: NDArray[np.floating[Any]], attributes: Dataset) -> NDArray[np.float32] | None:
    """(H, W) from 0 to 255 by the VOI LUT or the first window (PS3.3 C.11.2.1), None without a valid one."""
    if attributes.get("VOILUTSequence"):
        table = attributes.VOILUTSequence[0]
        bits = int(table.LUTDescriptor[2])
        return np.asarray(
            np.clip(_looked_up(values, table) * (255 / (2**bits - 1)), 0, 255), dtype=np.float32
        )
    centre, width = (_number(attributes.get(name), np.nan) for name in ("WindowCenter", "WindowWidth"))
    function = str(attributes.get("VOILUTFunction") or "LINEAR").strip().upper()
    if not (np.isfinite(centre) and np.isfinite(width)) or width <= 0 or (function == "LINEAR" and width < 1):
        return None
    if function == "SIGMOID":
        shown = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -80, 80)))
    elif function == "LINEAR_EXACT":
        shown = (values - centre) / width + 0.5
    elif width == 1:  # a threshold
        shown = values > centre - 0.5
    else:
        shown = (values - (centre - 0.5)) / (width - 1) + 0.5
    return np.asarray(np.clip(shown, 0, 1) * 255, dtype=np.float32)


def _stretched(
    values: NDArray[np.floating[Any]], padding: BoolArray | None, header: Dataset, *, rescaled: bool
) -> NDArray[np.float32]:
    """Without a window: 1 and 8 bits as stored, others stretched from the minimum to the maximum inside the image."""
    bits = int(header.get("BitsStored") or 16)
    if bits in {1, 8} and not header.get("PixelRepresentation") and not rescaled:
        return np.asarray(np.clip(values * (255 / (2**bits - 1)), 0, 255), dtype=np.float32)
    inside = values if padding is None else values[~padding]
    if not inside.size:
        return np.zeros(values.shape, np.float32)
    low, high = float(inside.min()), float(inside.max())
    if high == low:
        return np.zeros(values.shape, np.float32)
    return np.asarray(np.clip((values - low) * (255 / (high - low)), 0, 255), dtype=np.float32)


def _looked_up(values: NDArray[Any], table: Dataset) -> FloatArray:
    """Apply a LUT; values outside its range are mapped to its first or last entry."""
    # 0 entries are 65536.
    entries, first, bits = (int(part) for part in table.LUTDescriptor)
    data = table["LUTData"].value
    if isinstance(data, bytes):
        packed = bits <= 8 and len(data) < 2 * (entries or 65536)  # one byte per entry
        little = table.original_encoding[1] is not False
        data = np.frombuffer(data, dtype="u1" if packed else "<u2" if little else ">u2")
    lut = np.asarray(data, dtype=np.float64)[: entries or 65536]
    if not lut.size:
        raise DataError("the DICOM file holds a lookup table without entries")
    if first > 32767 and values.min() < 0:
        first -= 65536  # signed, written as unsigned
    at = np.clip(np.rint(values.astype(np.float64)) - first, 0, len(lut) - 1)
    return np.asarray(lut[at.astype(np.int64)])


def _number(value: Any, default: float) -> float:
    """An attribute as a number, the first one of several."""
    if value is None or isinstance(value, str):
        return default
    try:
        return float(value if isinstance(value, int | float) else value[0])
    except (TypeError, ValueError, IndexError):
        return default
