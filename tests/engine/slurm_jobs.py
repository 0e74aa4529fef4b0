"""What tests of Slurm jobs need."""

from __future__ import annotations

import importlib.util

import pytest

needs_submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None,
    reason="needs the optional package submitit; ./run.sh test installs it",
)
