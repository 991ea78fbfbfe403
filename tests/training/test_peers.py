"""Processes that watch each other: one that is lost or has failed ends the others, one that is done does not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from queue import Empty, Queue

import pytest
import torch.distributed

from tametail.training.peers import Peers, fails_first

DONE, FAILED = b"done", b"failed"
GRACE = 0.2


class Watched:
    """A process that watches others, of which the test holds the ends of the connections."""

    def __init__(self, rank: int, others: list[int]) -> None:
        pairs = {other: socket.socketpair() for other in others}
        self.others = {other: theirs for other, (_, theirs) in pairs.items()}
        self.ended: Queue[str] = Queue()
        own = {other: mine for other, (mine, _) in pairs.items()}
        self.peers = Peers(rank, own, self.ended.put, GRACE)
        self._all = [end for pair in pairs.values() for end in pair]
        for end in self._all:
            end.settimeout(5)

    def is_ended(self, seconds: float) -> bool:
        try:
            self.message = self.ended.get(timeout=seconds)
        except Empty:
            return False
        return True

    def close(self) -> None:
        self.peers.leave(failed=False)
        for end in self._all:
            end.close()


@pytest.fixture
def main() -> Iterator[Watched]:
    watched = Watched(0, [1, 2])
    yield watched
    watched.close()


def test_a_lost_process_ends_the_main_one_and_is_named(main: Watched) -> None:
    main.others[2].close()
    assert main.is_ended(5)
    assert main.message.startswith("Error: the process of rank 2 ")
    assert main.message.endswith("repeat the command to resume.")
    assert main.others[1].recv(16) == FAILED


@pytest.mark.parametrize(("rank", "prints"), [(1, True), (2, False)])
def test_a_lost_main_process_ends_the_others_of_which_one_says_so(rank: int, prints: bool) -> None:
    other = Watched(rank, [0])
    other.others[0].close()
    assert other.is_ended(5)
    assert bool(other.message) is prints
    other.close()


def test_a_failed_process_ends_the_others_in_silence_after_a_while(main: Watched) -> None:
    main.others[1].sendall(FAILED)
    assert main.others[2].recv(16) == FAILED
    assert main.peers.another_failed()
    assert not main.is_ended(GRACE / 4)
    assert main.is_ended(5)
    assert main.message == ""


def test_a_process_that_ends_by_itself_is_not_ended(main: Watched) -> None:
    main.others[1].sendall(FAILED)
    assert main.peers.another_failed(5)
    main.peers.leave(failed=True)
    assert not main.is_ended(3 * GRACE)
    assert main.others[2].recv(16).startswith(FAILED)


def test_a_process_that_is_done_ends_no_other(main: Watched) -> None:
    main.others[1].sendall(DONE)
    main.others[1].close()
    assert not main.peers.another_failed(GRACE)
    assert not main.is_ended(2 * GRACE)
    main.peers.leave(failed=False)
    assert main.others[2].recv(16) == DONE


def test_the_first_to_fail_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"WORLD_SIZE": 2, "RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    store = torch.distributed.TCPStore(
        "127.0.0.1", port, is_master=True, wait_for_workers=False, multi_tenant=True
    )
    assert [fails_first(unexpected=False) for _ in range(3)] == [True, False, False]
    del store
