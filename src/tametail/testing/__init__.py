"""Contract tests that an installed package can run on its own losses.

    pytest --pyargs tametail.testing --loss my_package.my_loss:MyLoss --loss "my_loss[gamma=2]"

Each ``--loss`` is a registered name or ``package.module:Class``, with parameters in brackets or without; the default is
every registered loss. The class must be a subclass of :class:`tametail.losses.Loss`. A test that fails names the
promise that the loss breaks; ``-k`` leaves tests out, such as ``-k "not compile"``.
"""

from __future__ import annotations

try:
    import pytest  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "tametail.testing needs pytest, which is not installed: pip install pytest", name="pytest"
    ) from error
