"""The built-in synthetic set, drawn to the cache folder when it is first read."""

from __future__ import annotations

from pathlib import Path

from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.table_folders import LABELS_FILE
from tametail.data.readers.tables import read_table
from tametail.data.table import ImageTable


@register_reader
class DemoReader(Reader):
    """Reads the source ``"demo"``."""

    name = "demo"
    priority = 20

    def matches(self, source: str | Path) -> bool:
        return source == "demo"

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        from tametail.data.decoding.cache import cache_dir
        from tametail.data.demo.demo import demo_directory, write_demo

        options.refuse_table_options("the demo set has fixed columns")
        directory = demo_directory(cache_dir(), 0)
        write_demo(directory, seed=0)
        frame = read_table(directory / LABELS_FILE, ReadOptions(), directory)
        return ImageTable.from_frame(frame, directory, "demo", synthetic=True)
