from __future__ import annotations

import json
import shutil
import stat
import subprocess

import pytest

from drengine.errors import InputError, JournalDamaged
from drengine.evidence import folder as folder_module
from drengine.evidence.folder import sums_digest, write_evidence
from drengine.model.canonical import canonical, sha256_hex
from drengine.model.ids import RunId


@pytest.fixture
def written(store, troubled_run, tmp_path):
    return write_evidence(store, troubled_run.run, tmp_path / "evidence")


def test_journals_are_byte_for_byte_one_file_per_chain(written, store, troubled_run):
    names = sorted(file.name for file in (written / "journals").iterdir())
    run = troubled_run.run
    assert names == [f"{run}.jsonl", f"{run}~repoint~fog-neu.jsonl", f"{run}~repoint~fog-weu.jsonl"]
    for row in store.runs():
        file = written / "journals" / f"{row.run.replace('/', '~')}.jsonl"
        assert file.read_bytes() == b"".join(store.lines(row.run))


def test_only_the_owner_may_read(written):
    for path in (written, *written.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_plan_and_facts_are_what_they_were_made_from(written, troubled_run):
    assert (written / "plan.json").read_bytes() == canonical(troubled_run.plan.to_json()) + b"\n"
    assert (
        json.loads((written / "facts.json").read_text())["schema"] == "drengine/evidence-facts/v1"
    )


def test_sha256sum_agrees(written):
    subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=written, check=True
    )
    assert sums_digest(written) == sha256_hex((written / "SHA256SUMS").read_bytes())


@pytest.mark.skipif(
    shutil.which("dash") is None and shutil.which("sh") is None, reason="no POSIX shell"
)
def test_the_readme_s_own_loop_follows_the_chains_and_sees_a_broken_one(written):
    readme = (written / "README.txt").read_text()
    script = readme[readme.index("       for f in") : readme.index("     The last digest")]
    told = subprocess.run(
        ["sh", "-c", script], cwd=written, check=True, capture_output=True, text=True
    ).stdout
    assert "BROKEN" not in told
    heads = {line.split()[0] for line in told.splitlines()}
    assert len(heads) == 3
    assert all(head in readme for head in heads)
    journal = next((written / "journals").glob("*fog-weu*"))
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(
        b"".join(
            [
                *lines[:2],
                lines[2].replace(b"preflight", b"prefl1ght").replace(b"engine", b"nobody"),
                *lines[3:],
            ]
        )
    )
    told = subprocess.run(
        ["sh", "-c", script], cwd=written, check=True, capture_output=True, text=True
    ).stdout
    assert "BROKEN" in told


def test_the_same_run_gives_the_same_bytes(written, store, troubled_run, tmp_path):
    again = write_evidence(store, troubled_run.run, tmp_path / "again")
    assert sums_digest(again) == sums_digest(written)


def test_extra_files_are_listed_with_the_others(store, plain_run, tmp_path):
    out = write_evidence(
        store, plain_run.run, tmp_path / "e", extra_files={"inputs/notes.txt": b"hello"}
    )
    assert (out / "inputs/notes.txt").read_bytes() == b"hello"
    assert "  inputs/notes.txt\n" in (out / "SHA256SUMS").read_text()


@pytest.mark.parametrize(
    "name", ["../x", "/x", "facts.json", "FACTS.json", "SHA256SUMS", "a b", "journals/../x"]
)
def test_an_extra_file_that_could_stand_for_another_is_refused(store, plain_run, tmp_path, name):
    with pytest.raises(InputError, match="cannot be added"):
        write_evidence(store, plain_run.run, tmp_path / "e", extra_files={name: b""})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_never_written_into(store, plain_run, tmp_path):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "mine").write_text("x")
    with pytest.raises(InputError, match="there already"):
        write_evidence(store, plain_run.run, tmp_path / "e")
    assert [p.name for p in (tmp_path / "e").iterdir()] == ["mine"]
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="there already"):
        write_evidence(store, plain_run.run, tmp_path / "link")


def test_an_empty_folder_is_taken(store, plain_run, tmp_path):
    (tmp_path / "e").mkdir()
    assert write_evidence(store, plain_run.run, tmp_path / "e") == tmp_path / "e"


def test_nothing_is_left_where_writing_fails(store, plain_run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "write_whole", full)
    with pytest.raises(InputError, match="No space left"):
        write_evidence(store, plain_run.run, tmp_path / "e")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_chain_gives_no_evidence(store, plain_run, tmp_path):
    kept = store.disk.runs[plain_run.run]
    kept.lines[5] = kept.lines[5].replace(b"engine", b"angine")
    with pytest.raises(JournalDamaged, match="record"):
        write_evidence(store, plain_run.run, tmp_path / "e")
    assert list(tmp_path.iterdir()) == []


def test_a_child_run_alone_is_no_evidence(store, plain_run, tmp_path):
    with pytest.raises(InputError, match="is a child run"):
        write_evidence(store, RunId(f"{plain_run.run}/repoint/fog-weu"), tmp_path / "e")


def test_an_unfinished_run_can_be_written_and_says_so(tell, store, tmp_path):
    story = tell.recover(tell.Story(store, tell.make_plan()), until="upload")
    out = write_evidence(store, story.run, tmp_path / "e")
    assert "Verdict: not finished" in (out / "README.txt").read_text()
