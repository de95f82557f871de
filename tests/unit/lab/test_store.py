from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from drengine.lab.store import CallRow, Store, read_calls, reading


def test_documents_are_found_in_order_by_prefix(store: Store) -> None:
    with store.transaction() as tx:
        for key in ("b/2", "a/1", "b/1", "b", "c/1"):
            tx.put("kind", key, {"key": key})
        tx.put("other", "b/3", {})
        assert [key for key, _ in tx.find("kind", "b/")] == ["b/1", "b/2"]
        assert [key for key, _ in tx.find("kind")] == ["a/1", "b", "b/1", "b/2", "c/1"]
        assert [key for key, _ in tx.find("kind", after="b", limit=2)] == ["b/1", "b/2"]
        assert (tx.count("kind"), tx.count("kind", "b/"), tx.count("none")) == (5, 2, 0)
        assert tx.get("kind", "b/1") == {"key": "b/1"}
        assert tx.delete("kind", "b/1") is True
        assert tx.delete("kind", "b/1") is False
        assert tx.get("kind", "b/1") is None


def test_documents_may_be_written_while_they_are_found(store: Store) -> None:
    with store.transaction() as tx:
        for number in range(5):
            tx.put("kind", str(number), {})
        for key, _ in tx.find("kind"):
            tx.delete("kind", key)
            tx.put("kind", key + "x", {})
        assert [key for key, _ in tx.find("kind")] == ["0x", "1x", "2x", "3x", "4x"]


def test_an_exception_leaves_neither_effect_nor_log_nor_job(store: Store, tmp_path: Path) -> None:
    def fail() -> None:
        with store.transaction() as tx:
            tx.put("kind", "key", {})
            tx.put_blob("blob", b"bytes")
            tx.schedule("job", {}, 0)
            tx.log_effect("effect", "target", {})
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        fail()
    with store.transaction() as tx:
        assert tx.get("kind", "key") is None
        assert tx.get_blob("blob") is None
        assert tx.jobs() == []
    assert read_calls(tmp_path / "lab.db") == []


def test_a_second_transaction_in_the_same_thread_is_refused_not_waited_for(store: Store) -> None:
    def nested() -> None:
        with store.transaction(), store.transaction():
            pass

    with pytest.raises(RuntimeError, match="already open"):
        nested()
    with store.transaction() as tx:
        tx.put("kind", "key", {})


def test_writers_of_several_threads_do_not_lose_updates(store: Store) -> None:
    def add() -> None:
        for _ in range(50):
            with store.transaction() as tx:
                found = tx.get("kind", "sum") or {"n": 0}
                tx.put("kind", "sum", {"n": found["n"] + 1})

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.transaction() as tx:
        assert tx.get("kind", "sum") == {"n": 200}


def test_the_call_log_is_numbered_and_readable_from_outside(store: Store, tmp_path: Path) -> None:
    with store.transaction() as tx:
        first = tx.log_call(CallRow("h", "GET", "/p", "q=1", 200, authorised=True))
        tx.log_effect("job.done", "thing", {"b": 1, "a": 2})
    rows = read_calls(tmp_path / "lab.db", after=first)
    assert [(row["effect"], row["target"], row["detail"]) for row in rows] == [
        ("job.done", "thing", {"a": 2, "b": 1})
    ]
    (seen,) = read_calls(tmp_path / "lab.db", limit=1)
    assert (seen["seq"], seen["authorised"], seen["virtual_ms"] > 0) == (first, True, True)


def test_reading_from_outside_cannot_write(store: Store, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.put("kind", "key", {"a": 1})
    with reading(tmp_path / "lab.db", 7) as tx:
        assert (tx.get("kind", "key"), tx.now_ms) == ({"a": 1}, 7)
        with pytest.raises(sqlite3.OperationalError):
            tx.put("kind", "key", {})


def test_the_file_is_private_and_survives_being_opened_again(store: Store, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.put_blob("blob", b"\0bytes")
    assert (tmp_path / "lab.db").stat().st_mode & 0o077 == 0
    again = Store(tmp_path / "lab.db", lambda: 0)
    with again.transaction() as tx:
        assert tx.get_blob("blob") == b"\0bytes"
        assert tx.delete_blob("blob")
    again.close()
