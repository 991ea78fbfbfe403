from __future__ import annotations

import errno
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fixtures.leftovers import left_over
from tametail.core.errors import DataError, TametailError
from tametail.training.checkpointing.checkpoint import CheckpointStore, load_weights, save_weights

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.complex64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def store_of(folder: Path, *steps: int) -> CheckpointStore:
    """A store in which these steps were saved."""
    store = CheckpointStore(folder / "kept")
    for step in steps:
        store.save({"weight": torch.full((50,), step)}, {"step": step})
    return store


def newest(store: CheckpointStore) -> Path:
    return max(store.directory.iterdir())


def step_found(store: CheckpointStore) -> int | None:
    """The step that a fresh store finds in the folder; tensors and state must be of the same one."""
    found = CheckpointStore(store.directory).load()
    if found is None:
        return None
    assert torch.equal(found.tensors["weight"], torch.full((50,), found.state["step"]))
    return int(found.state["step"])


def test_weights_come_back_exactly_and_leave_no_other_file(tmp_path: Path) -> None:
    model, other = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    model(torch.randn(8, 4))
    save_weights(model, tmp_path / "m.safetensors")
    load_weights(other, tmp_path / "m.safetensors")
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors"]


def test_weights_can_be_read_by_whoever_may_read_the_folders_other_files(tmp_path: Path) -> None:
    save_weights(nn.Linear(3, 2), tmp_path / "m.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_damaged_absent_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    save_weights(nn.Linear(3, 2), tmp_path / "m.safetensors")
    for damage in (b"", (tmp_path / "m.safetensors").read_bytes()[:-3]):
        (tmp_path / "damaged.safetensors").write_bytes(damage)
        with pytest.raises(DataError, match="cannot be used"):
            load_weights(nn.Linear(3, 2), tmp_path / "damaged.safetensors")
    with pytest.raises(DataError):
        load_weights(nn.Linear(3, 2), tmp_path / "absent.safetensors")
    with pytest.raises(DataError):
        load_weights(nn.Linear(3, 4), tmp_path / "m.safetensors")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_every_dtype_and_shape_come_back_bit_by_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    bits = torch.arange(240, dtype=torch.uint8) % 2 if dtype is torch.bool else torch.arange(240).byte()
    flat = bits.view(dtype)
    tensors = {"flat": flat, "scalar": flat[1].clone(), "empty": torch.empty(0, 3, dtype=dtype)}
    store = CheckpointStore(tmp_path / "kept")
    store.save(tensors, {})
    found = store.load()
    assert found is not None
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        back = found.tensors[name]
        assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(back.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_tensors_that_share_memory_or_are_strided_come_back(tmp_path: Path) -> None:
    whole = torch.randn(4, 6, requires_grad=True)
    images = torch.randn(2, 3, 5, 5).to(memory_format=torch.channels_last)
    tensors = {"whole": whole, "tied": whole, "part": whole[1:3], "turned": whole.t(), "images": images}
    store = CheckpointStore(tmp_path / "kept")
    store.save(tensors, {})
    found = store.load()
    assert found is not None
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors.items())


def test_the_state_comes_back_exactly(tmp_path: Path) -> None:
    state: dict[str, Any] = {
        "history": [[1, 0.1 + 0.2, 5e-324, -0.0, 1 / 3, 1.7976931348623157e308, math.inf]],
        "texts": {"größe": 'ß\n"\\', "none": None, "yes": True, "big": 2**80},
    }
    store = CheckpointStore(tmp_path / "kept")
    store.save({}, state)
    found = store.load()
    assert found is not None
    assert found.state == state
    assert math.copysign(1, found.state["history"][0][3]) == -1


def test_equal_content_gives_an_equal_file(tmp_path: Path) -> None:
    a, b = newest(store_of(tmp_path / "a", 3)), newest(store_of(tmp_path / "b", 3))
    assert a.name == b.name
    assert a.read_bytes() == b.read_bytes()
    assert load_file(a)["weight"][0] == 3


def test_the_last_two_checkpoints_remain(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1, 2, 3)
    assert len(list(store.directory.iterdir())) == 2
    found = store.load()
    assert found is not None
    assert (found.state, found.note) == ({"step": 3}, "")
    newest(store).unlink()
    assert step_found(store) == 2


def test_nothing_is_found_where_nothing_was_saved_or_all_was_removed(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "absent").load() is None
    store = store_of(tmp_path, 1)
    store.remove()
    store.remove()
    assert list(tmp_path.iterdir()) == []
    store.save({"weight": torch.full((50,), 9)}, {"step": 9})
    assert step_found(store) == 9


def damages(data: bytes) -> list[bytes]:
    """Empty, cut short, longer, another's, and one bit turned in the length, header, state and tensors."""
    flipped = [
        data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        for at in (0, 7, 9, data.index(b"step"), len(data) - 1)
    ]
    return [b"", data[:4], data[:-1], data + b"\0", b"\x89PNG" * 50, b"\xff" * 400, *flipped]


def test_a_damaged_checkpoint_falls_back_to_the_previous_one(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1, 2)
    path = newest(store)
    for damage in damages(path.read_bytes()):
        path.write_bytes(damage)
        found = store.load()
        assert found is not None
        assert found.state == {"step": 1}
        assert path.name in found.note
        assert "the previous one" in found.note


def test_where_all_are_damaged_nothing_is_found(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1)
    whole = newest(store)
    data = whole.read_bytes()
    for damage in damages(data):
        whole.write_bytes(damage)
        assert store.load() is None
        assert len(store.damaged) == 1
    whole.unlink()
    whole.mkdir()
    assert store.load() is None


def test_the_next_save_deletes_damaged_files_before_undamaged_ones(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1, 2)
    newest(store).write_bytes(b"damaged")
    again = CheckpointStore(store.directory)
    assert again.load() is not None
    again.save({"weight": torch.full((50,), 3)}, {"step": 3})
    newest(store).write_bytes(b"damaged, too")
    assert step_found(store) == 1


def failing_with(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=errno.errorcode.get)
def test_a_full_or_read_only_disk_is_an_error_and_leaves_the_last_state(
    tmp_path: Path, call: str, number: int
) -> None:
    store = store_of(tmp_path, 1, 2)
    before = {path: path.read_bytes() for path in store.directory.iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        if call == "open":
            patch.setattr(Path, "open", failing_with(number))
        else:
            patch.setattr(os, call, failing_with(number))
        with pytest.raises(TametailError, match=os.strerror(number)) as caught:
            store.save({"weight": torch.full((50,), 3)}, {"step": 3})
    assert str(store.directory) in str(caught.value)
    assert "repeat the command" in str(caught.value)
    assert {path: path.read_bytes() for path in store.directory.iterdir()} == before
    store.save({"weight": torch.full((50,), 3)}, {"step": 3})
    assert step_found(store) == 3


def test_an_interruption_while_writing_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    store = store_of(tmp_path, 1)
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.save({}, {"step": 2})
    assert len(list(store.directory.iterdir())) == 1
    assert step_found(store) == 1


def test_a_truncated_file_is_an_error_and_is_removed(tmp_path: Path) -> None:
    script = """
import resource, sys, torch
from pathlib import Path
from tametail.core.errors import TametailError
from tametail.training.checkpointing.checkpoint import CheckpointStore
store = CheckpointStore(Path(sys.argv[1]))
store.save({"weight": torch.zeros(50)}, {"step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    store.save({"weight": torch.zeros(50_000)}, {"step": 2})
except TametailError as error:
    print(error)
"""
    pytest.importorskip("resource")
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "kept")], capture_output=True, text=True, check=True
    )
    assert os.strerror(errno.EFBIG) in ended.stdout
    assert [path.stat().st_size < 1000 for path in (tmp_path / "kept").iterdir()] == [True]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1)
    shutil.rmtree(tmp_path / "kept")
    with pytest.raises(TametailError, match="No such file"):
        store.save({}, {"step": 2})


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(TametailError, match="cannot be written"):
        store_of(tmp_path, 1)


def test_partial_files_of_a_killed_process_are_removed_at_the_next_save(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1)
    stale = left_over(store.directory / "checkpoint-00000002-0.safetensors")
    stale.write_bytes(b"half")
    assert step_found(store) == 1
    store.save({"weight": torch.full((50,), 2)}, {"step": 2})
    assert not stale.exists()
    assert len(list(store.directory.iterdir())) == 2


def test_no_pickle_is_ever_read(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1)
    data = newest(store).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["state"]) == {"step": 1}
    torch.save({"weight": torch.zeros(50)}, newest(store))
    assert store.load() is None
