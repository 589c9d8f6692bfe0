"""The usual test sets, which may not be handed on: in the folder that IRESTORE_BENCH names."""

import os
from pathlib import Path

import pytest


def bench_folder(name: str) -> Path:
    """A set's folder. Skips the test where it is not on this machine."""
    if "IRESTORE_BENCH" not in os.environ:
        pytest.skip("IRESTORE_BENCH names no folder of test sets (Set5/HR_x4, Set5/LR_x4, ...)")
    folder = Path(os.environ["IRESTORE_BENCH"], name)
    if not folder.is_dir():
        pytest.skip(f"IRESTORE_BENCH has no {name}")
    return folder
