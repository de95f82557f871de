"""Archives that are damaged or hostile: refused whole, with nothing taken in."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from exported import bring, members

from drengine.errors import InputFileError, JournalDamaged, LimitExceeded
from drengine.journal import archive
from drengine.journal.memory import MemoryStore
from drengine.model.canonical import canonical
from drengine.model.ids import RunId

RUN = RunId("r-0123456789ab")
CHILD = RunId("r-0123456789ab/mi-1")


@pytest.fixture
def store():
    """One kind of store is enough for what happens before a store is asked."""
    return MemoryStore()


def build(path: Path, files: dict[str, bytes] | list[tuple[tarfile.TarInfo, bytes]], **options):
    if isinstance(files, dict):
        files = [(tarfile.TarInfo(name), content) for name, content in files.items()]
    with tarfile.open(path, "w", **({"format": tarfile.GNU_FORMAT} | options)) as tar:
        for member, content in files:
            member.size = member.size or len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def untouched(store) -> bool:
    return not store.exists(RUN) and not store.exists(CHILD) and not store.runs()


def resealed(found: dict[str, bytes], change) -> dict[str, bytes]:
    doc = json.loads(found["manifest.json"])
    change(doc)
    return {**found, "manifest.json": canonical(doc) + b"\n"}


def swap_journals(doc):
    doc["journals"] = doc["journals"][::-1]


def rename_run(doc):
    doc["journals"][0]["run"] = "r-ffffffffffff"


def cut_journal(found):
    name = "journals/r-0123456789ab.jsonl"
    return {**found, name: b"".join(found[name].splitlines(keepends=True)[:-1])}


def change(name: str, old: bytes, new: bytes):
    return lambda found: {**found, name: found[name].replace(old, new)}


@pytest.mark.parametrize(
    ("damage", "error", "reason"),
    [
        (
            lambda f: {n: c for n, c in f.items() if n != "manifest.json"},
            InputFileError,
            "no manifest",
        ),
        (lambda f: {**f, "manifest.json": b"{}\n"}, InputFileError, "manifest"),
        (lambda f: {**f, "manifest.json": b"[" * 100_000}, InputFileError, "manifest"),
        (lambda f: {**f, "manifest.json": f["manifest.json"][:-1]}, InputFileError, "newline"),
        (
            lambda f: {n: c for n, c in f.items() if "mi-1.jsonl" not in n},
            InputFileError,
            "missing",
        ),
        (lambda f: {**f, f"objects/{'0' * 64}": b""}, InputFileError, "is not in its manifest"),
        (lambda f: {**f, "journals/r-1.jsonl": b""}, InputFileError, "is not in its manifest"),
        (lambda f: resealed(f, swap_journals), InputFileError, "does not begin with a run"),
        (lambda f: resealed(f, rename_run), InputFileError, "of another run"),
        (lambda f: resealed(f, lambda d: d.update(extra=1)), InputFileError, "other keys"),
        (
            lambda f: resealed(f, lambda d: d.update(journals=[])),
            InputFileError,
            "begin with a run",
        ),
        (lambda f: resealed(f, lambda d: d["objects"].append("../x")), InputFileError, "SHA-256"),
        (
            lambda f: resealed(f, lambda d: d["objects"].extend(d["objects"])),
            InputFileError,
            "twice",
        ),
        (
            lambda f: resealed(f, lambda d: d["documents"][0].update(name="../x")),
            InputFileError,
            "document",
        ),
        (
            lambda f: resealed(f, lambda d: d["journals"][0].update(file="manifest.json")),
            InputFileError,
            "file names",
        ),
        (
            lambda f: resealed(f, lambda d: d["journals"][0].update(created_at_ms=-1)),
            InputFileError,
            "epoch",
        ),
        (
            lambda f: resealed(f, lambda d: d["journals"][0].update(seq=True)),
            InputFileError,
            "count",
        ),
        (
            change("documents/r-0123456789ab/plan.json", b"Runbook", b"runbook"),
            InputFileError,
            "is not what its manifest says",
        ),
        (
            change("journals/r-0123456789ab.jsonl", b'"mono":', b'"mono":1'),
            JournalDamaged,
            "record 1",
        ),
        (
            change("journals/r-0123456789ab~mi-1.jsonl", b'"mono":', b'"mono":1'),
            JournalDamaged,
            "mi-1",
        ),
        (cut_journal, JournalDamaged, "its end is lost"),
    ],
)
def test_a_damaged_archive_is_refused_whole(tar, tmp_path, damage, error, reason):
    path = build(tmp_path / "bad.tar", damage(members(tar)))
    there = MemoryStore()
    with pytest.raises(error, match=reason):
        bring(there, path)
    assert untouched(there)


def test_an_object_with_another_digest_is_refused(origin, tar, tmp_path):
    first = origin.objects_of_test[0]
    path = build(tmp_path / "bad.tar", {**members(tar), f"objects/{first}": b"other"})
    there = MemoryStore()
    with pytest.raises(InputFileError, match="another digest"):
        bring(there, path)
    assert untouched(there)
    assert there.disk.objects == {}


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (member("/etc/passwd"), "does not belong"),
        (member("../x"), "does not belong"),
        (member("journals/../../x.jsonl"), "does not belong"),
        (member("journals/a/b.jsonl"), "does not belong"),
        (member("journals/.hidden.jsonl"), "does not belong"),
        (member("objects/" + "A" * 64), "does not belong"),
        (member("notes.txt"), "does not belong"),
        (member("journals/x.jsonl\n"), "does not belong"),
        (member("journals/ü.jsonl"), "holds a name"),
        (member("journals/" + "x" * 600 + ".jsonl"), "too long"),
        (member("manifest.json"), "twice"),
        (member("journals/r-1.jsonl", tarfile.SYMTYPE, "/etc/passwd"), "not a plain file"),
        (member("journals/r-1.jsonl", tarfile.LNKTYPE, "manifest.json"), "not a plain file"),
        (member("journals", tarfile.DIRTYPE), "not a plain file"),
        (member("journals/r-1.jsonl", tarfile.CHRTYPE), "not a plain file"),
        (member("journals/r-1.jsonl", tarfile.FIFOTYPE), "not a plain file"),
        (member("journals/r-1.jsonl", tarfile.GNUTYPE_SPARSE), "not a plain file"),
        (member("journals/r-1.jsonl", tarfile.AREGTYPE), "not a plain file"),
    ],
)
def test_a_member_that_does_not_belong_is_refused(tar, tmp_path, info, reason):
    files = [(tarfile.TarInfo(name), content) for name, content in members(tar).items()]
    path = build(tmp_path / "bad.tar", [*files, (info, b"")])
    there = MemoryStore()
    with pytest.raises(InputFileError, match=reason):
        bring(there, path)
    assert untouched(there)


def test_extended_headers_are_refused(tmp_path):
    info = tarfile.TarInfo("manifest.json")
    info.pax_headers = {"path": "../x"}
    path = build(tmp_path / "bad.tar", [(info, b"")], format=tarfile.PAX_FORMAT)
    with pytest.raises(InputFileError, match="not a plain file"):
        bring(MemoryStore(), path)


@pytest.mark.parametrize("form", ["gz", "bz2", "xz"])
def test_compressed_archives_are_refused(tmp_path, form):
    with tarfile.open(tmp_path / "bad.tar", f"w:{form}") as out:
        info = tarfile.TarInfo("manifest.json")
        info.size = 1 << 20
        out.addfile(info, io.BytesIO(bytes(1 << 20)))
    with pytest.raises(InputFileError, match=r"no header of a tar file|end mark"):
        bring(MemoryStore(), tmp_path / "bad.tar")


def test_a_member_that_claims_more_than_there_is_is_refused(tmp_path):
    info = tarfile.TarInfo("manifest.json")
    info.size = 1 << 20
    (tmp_path / "bad.tar").write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(InputFileError, match="ends inside"):
        bring(MemoryStore(), tmp_path / "bad.tar")


@pytest.mark.parametrize(
    "name", ["manifest.json", "documents/r-1/plan.json", f"objects/{'0' * 64}"]
)
def test_a_member_beyond_its_cap_is_refused_before_it_is_read(tmp_path, name):
    info = tarfile.TarInfo(name)
    info.size = 300 << 20
    path = tmp_path / "bad.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    os.truncate(path, 512 + info.size + 1024)
    with pytest.raises(LimitExceeded, match="goes beyond what is read"):
        bring(MemoryStore(), path)


def test_too_many_files_are_refused(tar, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    with pytest.raises(LimitExceeded, match="3 files"):
        bring(MemoryStore(), tar)


def test_too_many_bytes_are_refused(tar, monkeypatch):
    monkeypatch.setattr(archive, "MAX_TOTAL", 100)
    with pytest.raises(LimitExceeded, match="100 in all"):
        bring(MemoryStore(), tar)


def test_every_cut_of_an_archive_is_refused(tar):
    content = tar.read_bytes()
    used = len(content.rstrip(b"\0"))
    path = tar.with_name("cut.tar")
    for length in [*range(0, used, 256), used]:
        path.write_bytes(content[:length])
        there = MemoryStore()
        with pytest.raises((InputFileError, JournalDamaged)):
            bring(there, path)
        assert untouched(there)


def test_every_changed_byte_of_an_archive_is_refused_or_makes_no_difference(tar):
    """Only the free texts of a listing (title, class) and the tar's own mode may differ."""
    content = tar.read_bytes()
    whole = MemoryStore()
    bring(whole, tar)
    path = tar.with_name("changed.tar")
    for place in range(0, len(content.rstrip(b"\0")), 37):
        changed = bytearray(content)
        changed[place] ^= 0x11
        path.write_bytes(changed)
        there = MemoryStore()
        try:
            bring(there, path)
        except (InputFileError, JournalDamaged, LimitExceeded):
            assert untouched(there)
        else:
            assert list(there.lines(RUN)) == list(whole.lines(RUN)), place
            assert there.disk.objects == whole.disk.objects
            assert there.disk.documents == whole.disk.documents


def test_a_header_that_does_not_fit_its_checksum_is_refused(tar):
    content = bytearray(tar.read_bytes())
    content[103] ^= 0x01  # the mode, which nothing else looks at
    tar.write_bytes(content)
    with pytest.raises(InputFileError, match="at byte 0 there is no header"):
        bring(MemoryStore(), tar)


def test_something_behind_the_end_mark_is_refused(tar):
    path = tar.with_name("bad.tar")
    path.write_bytes(tar.read_bytes() + b"more")
    with pytest.raises(InputFileError, match="behind its end mark"):
        bring(MemoryStore(), path)


def test_a_link_in_a_folder_is_refused(folder, tmp_path):
    name = folder / "journals" / "r-0123456789ab.jsonl"
    name.rename(tmp_path / "outside.jsonl")
    name.symlink_to(tmp_path / "outside.jsonl")
    with pytest.raises(InputFileError, match="neither a file nor a folder"):
        bring(MemoryStore(), folder)


def test_a_linked_folder_is_refused(folder, tmp_path):
    (folder / "objects").rename(tmp_path / "outside")
    (folder / "objects").symlink_to(tmp_path / "outside")
    with pytest.raises(InputFileError, match="neither a file nor a folder"):
        bring(MemoryStore(), folder)


def test_a_file_that_does_not_belong_into_a_folder_is_refused(folder):
    (folder / "objects" / "notes.txt").write_text("x")
    with pytest.raises(InputFileError, match="does not belong"):
        bring(MemoryStore(), folder)


def test_an_archive_that_is_not_there_is_said_to_be(tmp_path):
    with pytest.raises(InputFileError, match="No such file"):
        bring(MemoryStore(), tmp_path / "absent.tar")


def test_the_manifest_names_what_the_files_hash_to(folder):
    doc = json.loads((folder / "manifest.json").read_bytes())
    for entry in doc["documents"]:
        content = (folder / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    for entry in doc["journals"]:
        last = (folder / entry["file"]).read_bytes().splitlines(keepends=True)[-1]
        assert hashlib.sha256(last).hexdigest() == entry["sha256"]
