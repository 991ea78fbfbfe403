from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tametail.core import registry
from tametail.core.registry import Registry, nearest


class Thing:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, str]], None]:
    """Writes a module and has it offer entry points, as an installed package would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(module: str, points: dict[str, str]) -> None:
        (tmp_path / "plug_in_of_test.py").write_text(module, encoding="utf-8")
        monkeypatch.delitem(sys.modules, "plug_in_of_test", raising=False)
        found = [EntryPoint(name, value, "tametail.things") for name, value in points.items()]
        monkeypatch.setattr(
            registry, "entry_points", lambda group: found if group == "tametail.things" else []
        )

    return install


def test_objects_are_found_by_name_in_the_order_of_registration() -> None:
    things: Registry[Thing] = Registry("things")
    b, a = things.register(Thing("b")), things.register(Thing("a"))
    assert things.names() == ["b", "a"]
    assert list(things) == [b, a]
    assert things.get("a") is a
    assert "b" in things
    assert "c" not in things


def test_register_is_a_decorator_of_classes() -> None:
    kinds: Registry[type] = Registry("kinds")

    @kinds.register
    class One:
        name = "one"

    assert kinds.get("one") is One


def test_a_name_that_is_taken_is_refused() -> None:
    things: Registry[Thing] = Registry("things")
    first = things.register(Thing("a"))
    things.register(first)  # itself is no other
    with pytest.raises(ValueError, match="expected a new name among the things of tametail, got 'a'"):
        things.register(Thing("a"))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    things: Registry[Thing] = Registry("things")
    things.register(Thing("focal"))
    with pytest.raises(LookupError, match=r"got 'focl'; did you mean focal\?"):
        things.get("focl")
    with pytest.raises(LookupError, match="known: focal"):
        things.get("zzz")


def test_packages_add_by_entry_points(installed: Callable[[str, dict[str, str]], None]) -> None:
    installed("class Mine:\n    name = 'mine'\n", {"mine": "plug_in_of_test:Mine"})
    things: Registry[type] = Registry("things")
    assert things.get("mine").__name__ == "Mine"
    assert things.names() == ["mine"]


def test_a_package_that_cannot_be_loaded_takes_nothing_with_it(
    installed: Callable[[str, dict[str, str]], None],
) -> None:
    installed("raise RuntimeError('no licence')", {"broken": "plug_in_of_test:Mine"})
    things: Registry[Thing] = Registry("things")
    things.register(Thing("own"))
    assert things.names() == ["own"]
    assert "no licence" in things.failures["broken"]
    with pytest.raises(
        LookupError, match="plug_in_of_test:Mine, which could not be loaded: RuntimeError: no licence"
    ):
        things.get("broken")


def test_nearest_lists_at_most_twenty() -> None:
    assert nearest("qqq", [f"{number:02}" for number in range(30)]).endswith("19, ...")


def test_an_unregistered_name_is_free_again() -> None:
    things: Registry[Thing] = Registry("things")
    things.register(Thing("own"))
    things.unregister("own")
    things.unregister("own")
    assert things.names() == []
