"""Named things that packages can add to: losses, strategies, readers, backbones, metrics, report sections.

Built-in ones are registered by the same decorator as those of installed packages. A package adds to a registry
by an entry point of the group ``tametail.<kind>``, whose value is the object, or a module that registers it:

    [project.entry-points."tametail.losses"]
    mine = "my_package.my_loss:MyLoss"

Standard library only, so that the losses can use it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Generic, TypeVar

T = TypeVar("T")
_Any = TypeVar("_Any")


def nearest(name: str, known: Iterable[str], most: int = 5) -> str:
    """Suggest names for an unknown one: ``"did you mean a, b?"``, or all known names if none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=most, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(close)}?"
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"known: {listed}"


class Registry(Generic[T]):
    """Objects of one kind by name, in order of registration.

    Args:
        kind: in the plural, such as ``"losses"``. Entry points are of the group ``tametail.<kind>``.
        built_in: modules that register built-in objects when imported; imported on first use.
        name_of: returns the name of an object; by default its attribute ``name``.
    """

    def __init__(
        self,
        kind: str,
        built_in: Iterable[str] = (),
        name_of: Callable[[T], str] = lambda item: str(getattr(item, "name")),  # noqa: B009
    ) -> None:
        self.kind = kind
        self.failures: dict[str, str] = {}  # by the name of an entry point: why it could not be loaded
        self.packages: dict[str, str] = {}  # by the name of an object: the installed package that added it
        self._built_in = tuple(built_in)
        self._name_of = name_of
        self._items: dict[str, T] = {}
        self._loaded = False

    def register(self, item: _Any) -> _Any:
        """Add an object under its name; can be used as a decorator.

        Raises:
            ValueError: another object has that name.
        """
        name = self._name_of(item)  # type: ignore[arg-type]
        present = self._items.get(name)
        if present is not None and not _same(present, item):
            raise ValueError(
                f"expected a new name among the {self.kind} of tametail, got {name!r}, which is {present!r}; choose another"
            )
        self._items[name] = item  # type: ignore[assignment]
        return item

    def unregister(self, name: str) -> None:
        """Remove the object of that name, if there is one."""
        self._load()
        self._items.pop(name, None)

    def get(self, name: str) -> T:
        """The object of that name.

        Raises:
            LookupError: there is none; the message suggests names, or says why an entry point could not be loaded.
        """
        self._load()
        if name in self._items:
            return self._items[name]
        if name in self.failures:
            raise LookupError(self.failures[name])
        raise LookupError(
            f"expected one of the {self.kind} of tametail, got {name!r}; {nearest(name, self._items)}"
        )

    def names(self) -> list[str]:
        """All names: built-in ones first, then those of packages."""
        self._load()
        return list(self._items)

    def why_missing(self) -> list[str]:
        """Why entry points of installed packages could not be loaded, one message each."""
        self._load()
        return list(self.failures.values())

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._items

    def __iter__(self) -> Iterator[T]:
        self._load()
        return iter(list(self._items.values()))

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # first, as the modules below may use the registry
        for module in self._built_in:
            import_module(module)
        for point in sorted(entry_points(group=f"tametail.{self.kind}"), key=lambda point: point.name):
            self._add(point)

    def _add(self, point: EntryPoint) -> None:
        before = set(self._items)
        try:
            found = point.load()
            if not isinstance(found, ModuleType):
                self.register(found)
            if point.dist is not None:
                added = self._items.keys() - before
                self.packages |= dict.fromkeys(added, f"{point.dist.name} {point.dist.version}")
        except Exception as error:  # noqa: BLE001 - somebody else's code: it must not take the project's own with it
            self.failures[point.name] = (
                f"{point.name!r} of the {self.kind} comes from {point.value}, which could not be loaded: "
                f"{type(error).__name__}: {error}"
            )


def _same(one: object, other: object) -> bool:
    """Whether two objects are the same, also if their module was imported twice."""
    place = [
        (getattr(item, "__module__", None), getattr(item, "__qualname__", None)) for item in (one, other)
    ]
    return one is other or (None not in place[0] and place[0] == place[1])
