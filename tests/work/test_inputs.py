"""What the stages read outside the run's folder."""

from __future__ import annotations

import json


def test_a_skipped_tile_stage_starts_without_heavy_packages(tmp_path, python_modules):
    (tmp_path / "runs" / "Some").mkdir(parents=True)
    (tmp_path / "runs" / "Some" / "tiles.json").write_text(json.dumps({"store": "abc"}))
    loaded = python_modules(
        "from types import SimpleNamespace\n"
        "from pipeline.paths import Folders\n"
        "from pipeline.work.inputs import lacks_tiles\n"
        "folders = Folders.from_environment()\n"
        "assert lacks_tiles(SimpleNamespace(paths=folders.run('Some'), folders=folders))"
    )
    assert not loaded & {"torch", "pandas", "cv2", "segmentation_models_pytorch", "timm"}
