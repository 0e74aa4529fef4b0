"""Workers end in order when Python exits, also after an error that nobody caught."""

from __future__ import annotations

import subprocess
import sys
import textwrap

SCRIPT = """
    import atexit
    import sys
    from pathlib import Path

    workers = []
    atexit.register(lambda: print([worker.exitcode for worker in workers]))  # before the imports: runs last

    from tests.data.test_loaders import (
        FramedMasks, IndexMasks, WholeImages, collate_valid, image_loader, make_competition, plain_images, valid_batches
    )

    def load(folder):
        catalog = make_competition(folder, num_images=2)
        dataset = WholeImages(catalog, plain_images(folder), FramedMasks(IndexMasks(folder)))
        loader = image_loader(dataset, 1, collate_valid, 1)
        for batch in valid_batches(loader):
            workers.extend(loader._iterator._workers)
            raise KeyError("nobody catches this")

    load(Path(sys.argv[1]))
"""


def test_workers_end_in_order_after_an_error_that_nobody_catches(project, tmp_path):
    words = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "data")]
    ended = subprocess.run(words, cwd=project, capture_output=True, text=True)
    assert ended.returncode == 1 and "nobody catches this" in ended.stderr
    assert ended.stdout == "[0]\n"
