from __future__ import annotations

from fixtures.pages import without_figures

__all__ = ["without_figures"]  # a fixture of the tests here
