from __future__ import annotations

import errno
import os
import stat

import pytest

from drengine.ceremony import files
from drengine.errors import InputFileError


def test_a_new_file_is_whole_private_and_alone(tmp_path):
    out = tmp_path / "blob.json"
    files.write_new(out, b"content")
    assert out.read_bytes() == b"content"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [out]


def test_what_stands_there_is_never_written_over(tmp_path):
    out = tmp_path / "blob.json"
    out.write_bytes(b"old")
    for attempt in (lambda: files.require_new(out), lambda: files.write_new(out, b"new")):
        with pytest.raises(InputFileError, match="exists already"):
            attempt()
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_dangling_link_is_something_that_stands_there(tmp_path):
    out = tmp_path / "blob.json"
    out.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputFileError, match="exists already"):
        files.require_new(out)
    with pytest.raises(InputFileError, match="exists already"):
        files.write_new(out, b"new")
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(InputFileError, match=r"the folder .* does not exist"):
        files.require_new(tmp_path / "none" / "blob.json")


@pytest.mark.parametrize("taken", [False, True])
def test_a_medium_without_links_gets_the_file_too_but_no_overwrite(tmp_path, monkeypatch, taken):
    def no_links(_source, _target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    out = tmp_path / "blob.json"
    if taken:
        out.write_bytes(b"old")
        with pytest.raises(InputFileError, match="exists already"):
            files.write_new(out, b"new")
    else:
        files.write_new(out, b"new")
    assert out.read_bytes() == (b"old" if taken else b"new")
    assert list(tmp_path.iterdir()) == [out]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputFileError, match="No space left"):
        files.write_new(tmp_path / "blob.json", b"new")
    assert list(tmp_path.iterdir()) == []


def test_inputs_are_regular_files_of_bounded_size(tmp_path):
    path, pipe = tmp_path / "sd.json", tmp_path / "pipe"
    path.write_bytes(b"x" * 10)
    os.mkfifo(pipe)
    assert files.read_input(path, "it", max_bytes=10) == b"x" * 10
    for bad, size, message in (
        (path, 9, "more than 9 bytes"),
        (pipe, 9, "not a regular file"),
        (tmp_path, 9, "not a regular file"),
        (tmp_path / "none", 9, "reading the domain .*none: No such file"),
    ):
        with pytest.raises(InputFileError, match=message):
            files.read_input(bad, "the domain", max_bytes=size)


def _fail(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_new_file_that_is_not_synced_is_not_kept_and_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_sync_folder", _fail)
    with pytest.raises(InputFileError, match="Input/output error") as refused:
        files.write_new(tmp_path / "blob.json", b"new")
    assert "it was not kept" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_was_reserved_in_vain_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "link", _fail)
    monkeypatch.setattr(type(tmp_path), "replace", _fail)
    with pytest.raises(InputFileError, match="Input/output error"):
        files.write_new(tmp_path / "blob.json", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_replaced_file_that_is_not_synced_is_the_new_one_and_says_so(tmp_path, monkeypatch):
    path = tmp_path / "transcript.json"
    assert files.replace_private(path, b"old")
    monkeypatch.setattr(files, "_sync_folder", _fail)
    assert not files.replace_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
