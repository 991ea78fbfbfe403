"""Cache of what an audit has learned from the content of files: their statistics with thumbnails, and which of them are copies.

Statistics are in immutable blocks of some thousand images, one file each, in the format of Parquet. An image is found by the digest of its bytes, so that
neither its name and place nor its label matter. A block that is damaged or absent is as good as none. Blocks take part in
the size limit of the cache, and go as single ones. The key has the versions of the decoder and of the statistics.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.audit.image_stats import (
    THUMBNAIL,
    FileStats,
    ImageStats,
    collect_stats,
    has_wrong_extension,
    no_thumbnails,
)
from tametail.core.atomic import atomic_path, write_atomically
from tametail.core.errors import TametailError, UsageError
from tametail.core.parquet_file import open_parquet
from tametail.core.regular_file import regular
from tametail.data import cache_dir
from tametail.data.decoding.cache import DECODER_VERSION
from tametail.data.decoding.cache_folder import INSPECTED, cache_limit, make_room, mark_used

STATS_VERSION = 1  # increase it whenever collect_stats finds something else in the same bytes
COPIES_VERSION = 1  # increase it whenever the search for copies finds others among the same images
_BLOCK = 4096  # images in a file
_KEPT = tuple(one.name for one in fields(FileStats) if one.name != "wrong_extension")  # which is of the path
_BYTES_PER_IMAGE = THUMBNAIL**2 + 512


def cached_stats(
    paths: Sequence[Path],
    digests: Sequence[str],
    *,
    bit_depth: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> ImageStats:
    """The same as `collect_stats`, but content that was read before is taken from the cache, and other content is kept there.

    Args:
        digests: of the content of the N files.

    Raises:
        UsageError: see `cache_limit`.
    """
    cache_limit()
    thumbnails = no_thumbnails(len(paths))
    files: list[FileStats | None] = [None] * len(paths)
    for row, content, thumbnail in _recall(digests, bit_depth):
        files[row] = FileStats(**content, wrong_extension=has_wrong_extension(paths[row], content["kind"]))
        thumbnails[row] = thumbnail
    unread = [row for row, known in enumerate(files) if known is None]
    if advance is not None:
        advance(len(paths) - len(unread))
    for start in range(0, len(unread), _BLOCK):
        rows = unread[start : start + _BLOCK]
        part = collect_stats([paths[row] for row in rows], bit_depth=bit_depth, advance=advance)
        for row, file, thumbnail in zip(rows, part.files, part.thumbnails, strict=True):
            files[row], thumbnails[row] = file, thumbnail
        _keep(zip(part.files, part.thumbnails, strict=True), bit_depth)
    return ImageStats([file for file in files if file is not None], thumbnails)


def _recall(
    digests: Sequence[str], bit_depth: int | None
) -> Iterator[tuple[int, dict[str, Any], NDArray[np.uint8]]]:
    """Rows of N files, by the digests of their content, with their statistics and thumbnails, as far as they are known."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        rows_of[_image_key(digest, bit_depth)].append(row)
    for path in sorted(_folder().glob("*.bin")) if rows_of else ():
        try:
            with open_parquet(path) as file:
                keys = file.read(["key"])["key"].to_pylist()
                here = [at for at, key in enumerate(keys) if key in rows_of]
                if not here:
                    continue
                table = file.read(["stats", "thumbnail"])
            texts, thumbnails = table["stats"].to_pylist(), table["thumbnail"]
            known = [(keys[at], _known(texts[at]), _square(thumbnails[at].as_py())) for at in here]
        except (OSError, ValueError, LookupError, TypeError):
            continue  # its images are read again
        mark_used(path)
        for key, content, thumbnail in known:
            for row in rows_of.pop(key, ()):
                yield row, content, thumbnail


def _keep(found: Iterable[tuple[FileStats, NDArray[np.uint8]]], bit_depth: int | None) -> None:
    """Add a block; files with errors are left out, as an error may be of the machine. Without room nothing is kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = {
        _image_key(stats.digest, bit_depth): (stats, thumbnail)
        for stats, thumbnail in found
        if not stats.error
    }
    if not kept:
        return
    columns = {
        "key": list(kept),
        "stats": [_described(stats) for stats, _ in kept.values()],
        "thumbnail": [np.ascontiguousarray(thumbnail).tobytes() for _, thumbnail in kept.values()],
    }
    path = _folder() / f"{_digest(*kept)}.bin"
    with _only_to_save_time():
        make_room(len(kept) * _BYTES_PER_IMAGE)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            pq.write_table(
                pa.table(columns),
                temporary,
                compression="zstd",
                use_dictionary=False,
                write_page_checksum=True,
            )


def recall_copies(digests: Sequence[str], find: Callable[[], Any], *, bit_depth: int | None = None) -> Any:
    """What was found before among images of this content; otherwise find it, and keep it as JSON.

    Args:
        digests: of the content of the images, in an order that does not depend on anything else.
    """
    key = _digest(f"copies {COPIES_VERSION}", *(_image_key(digest, bit_depth) for digest in digests))
    path = _folder() / f"{key}.json"
    with suppress(OSError, ValueError, LookupError, TypeError):
        record = json.loads(regular(path).read_text(encoding="utf-8"))
        if record["checksum"] == _digest(json.dumps(record["found"])):
            mark_used(path)
            return record["found"]
    found = find()
    text = json.dumps({"checksum": _digest(json.dumps(found)), "found": found})
    with _only_to_save_time():
        make_room(len(text))
        write_atomically(path, text)
    return found


@contextmanager
def _only_to_save_time() -> Iterator[None]:
    """Go on without the cache where it cannot be written, but not with a wrong setting."""
    try:
        yield
    except UsageError:
        raise
    except (OSError, TametailError):
        return


def _folder() -> Path:
    return cache_dir() / INSPECTED


def _image_key(digest: str, bit_depth: int | None) -> str:
    return f"{digest}-{bit_depth or 0}-{DECODER_VERSION}-{STATS_VERSION}"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:40]


def _described(stats: FileStats) -> str:
    return json.dumps({name: getattr(stats, name) for name in _KEPT})


def _known(described: str) -> dict[str, Any]:
    content = json.loads(described)
    return {name: content[name] for name in _KEPT} | {"identifying": tuple(content["identifying"])}


def _square(thumbnail: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(thumbnail, dtype=np.uint8).reshape(THUMBNAIL, THUMBNAIL)
