"""A folder of configs that a test may fill and break."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import load as load_module


@pytest.fixture(scope="module")
def module_configs(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of configs/ for the tests of one file, which the loader reads instead of the project's."""
    folder = tmp_path_factory.mktemp("project") / "configs"
    shutil.copytree(project / "configs", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_module, "CONFIGS", folder)
        yield folder
