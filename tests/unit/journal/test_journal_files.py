"""Files that are whole or absent."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from drengine.journal import files, schema
from drengine.journal.sqlite import SqliteStore


@pytest.fixture
def synced(monkeypatch):
    """What was synced, in order: whether a folder, and the names that were in it then."""
    seen: list[tuple[str, list[str]]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        seen.append(("folder", sorted(os.listdir(descriptor))) if is_folder else ("file", []))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


def test_content_is_synced_before_the_name_and_the_name_before_the_return(tmp_path, synced):
    files.write_whole(tmp_path / "x", b"content")
    assert synced == [("file", []), ("folder", ["x"])]
    assert (tmp_path / "x").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_what_need_not_last_is_not_synced(tmp_path, synced):
    files.write_whole(tmp_path / "x", b"content", durable=False)
    assert synced == []
    assert (tmp_path / "x").read_bytes() == b"content"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    files.write_whole(tmp_path / "x", b"old")

    def fail():
        with files.whole_file(tmp_path / "x") as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_the_folder_is_synced_after_the_store_was_made_in_it(tmp_path, synced):
    SqliteStore(tmp_path / "home").close()
    assert any(kind == "folder" and schema.FILE_NAME in names for kind, names in synced)


def test_an_object_is_synced_with_its_folders_also_when_it_was_there(tmp_path, synced):
    with SqliteStore(tmp_path / "home") as store:
        synced.clear()
        sha256 = store.put_object(b"x")
        prefix = sha256[:2]
        assert synced == [("file", []), ("folder", [sha256]), ("folder", [prefix])]
        synced.clear()
        # Whoever wrote it may have died before its name was durable.
        assert store.put_object(b"x") == sha256
        assert synced == [("folder", [sha256]), ("folder", [prefix])]
    assert Path(tmp_path / "home" / "objects" / prefix / sha256).read_bytes() == b"x"
