"""What the stages share outside their own work."""

import json


def test_a_skipped_tile_stage_starts_without_heavy_packages(tmp_path, monkeypatch, python_modules):
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    (tmp_path / "Some").mkdir()
    (tmp_path / "Some" / "tiles.json").write_text(json.dumps({"store": "abc"}))
    loaded = python_modules(
        "from types import SimpleNamespace\n"
        "from pipeline.work import experiment\n"
        "from pipeline.paths import RunPaths\n"
        "assert experiment.lacks_tiles(SimpleNamespace(paths=run_paths('Some')))"
    )
    assert not loaded & {"torch", "pandas", "cv2", "segmentation_models_pytorch", "timm"}
