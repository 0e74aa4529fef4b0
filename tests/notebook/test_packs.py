"""Which earlier output a session of a notebook continues from."""

from __future__ import annotations

import os
import tarfile

from pipeline.notebook.session import newest_pack


def test_a_session_continues_from_the_pack_whose_files_are_newest_whatever_its_own_time(tmp_path):
    packs = []
    for name, written_s, mounted_s in (("first", 1_000, 9_000), ("second", 2_000, 9_000), ("damaged", 3_000, 9_999)):
        file, pack = tmp_path / "history.csv", tmp_path / name / "mine-runs.pack"
        pack.parent.mkdir()
        file.write_text(name)
        os.utime(file, (written_s, written_s))
        with tarfile.open(pack, "w") as archive:
            archive.add(file, "runs/demo/history.csv")
        os.utime(pack, (mounted_s, mounted_s))
        packs.append(pack)
    packs[2].write_bytes(b"damaged")
    assert newest_pack(packs) == newest_pack(packs[::-1]) == packs[1]
    assert newest_pack(packs[2:]) == packs[2], "whose damage is then told"


def test_a_pack_that_the_mount_does_not_give_is_left_out_with_a_line(tmp_path, capsys):
    unreadable, good = tmp_path / "bad" / "mine-runs.pack", tmp_path / "mine-runs.pack"
    unreadable.mkdir(parents=True)  # opening a folder raises an OSError, as a bad mount does
    with tarfile.open(good, "w"):
        pass
    assert newest_pack([unreadable, good]) == newest_pack([good, unreadable]) == good
    assert f"{unreadable} cannot be read and is left out: Is a directory" in capsys.readouterr().out
