from __future__ import annotations

import platform
from pathlib import Path

import pytest

from fixtures.forked import fork_server

# Takes and frees 32 MB again and again, and counts the pages that the system had to clear for the last ten times.
_PAGES = """
import resource, sys, torch
from tametail.training.hardware import disable_malloc_trim
if sys.argv[1] == "keep":
    assert disable_malloc_trim()
for number in range(30):
    if number == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is a function of glibc")
def test_kept_memory_is_not_cleared_anew(tmp_path: Path) -> None:
    pages = [
        int(fork_server().run("-c", _PAGES, how, directory=tmp_path).stdout) for how in ("keep", "leave")
    ]
    assert pages[0] < pages[1] / 20
