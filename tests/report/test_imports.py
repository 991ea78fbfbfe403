from __future__ import annotations

import subprocess
import sys


def test_asking_for_the_best_loss_is_cheap_to_import() -> None:
    heavy = ("torch", "matplotlib", "jinja2", "pandas", "sklearn", "pyarrow")
    code = f"import sys; from tametail.report import best_method; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
