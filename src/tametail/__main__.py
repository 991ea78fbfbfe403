"""The ``tametail`` command, also as ``python -m tametail``, as launchers of several processes start it."""

from __future__ import annotations

from tametail.core.interruption import quit_on_signals


def main() -> None:
    """Entry point: signals are handled before the imports of the command line."""
    quit_on_signals()
    from tametail.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
