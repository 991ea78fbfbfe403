"""``python -m tametail``: the command line, as launchers of several processes start it."""

from __future__ import annotations

from tametail.cli.app import main

if __name__ == "__main__":
    main()
