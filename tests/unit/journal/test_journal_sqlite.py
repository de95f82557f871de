"""What is particular to the SQLite store: its file, its settings, its failures."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from drengine.errors import JournalDamaged, JournalError, StoreFailed
from drengine.journal import objects, schema, tables
from drengine.journal.sqlite import SqliteStore
from drengine.model.ids import RunId
from drengine.model.records import Head, RecordType

RUN = RunId("r-0123456789ab")

needs_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "home"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def raw(home: Path) -> sqlite3.Connection:
    return sqlite3.connect(home / "drengine.db", isolation_level=None)


def test_everything_in_a_home_is_for_its_owner_only(home, draft):
    before = os.umask(0)
    try:
        with SqliteStore(home) as store:
            store.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED))
            lease = store.acquire(RUN, "the test")
            sha256 = store.put_object(b"large")
            assert mode_of(home) == 0o700
            for path in home.rglob("*"):
                assert mode_of(path) == (0o700 if path.is_dir() else 0o600), path
            assert (home / "objects" / sha256[:2] / sha256).read_bytes() == b"large"
            assert {path.name for path in home.iterdir()} == {
                "drengine.db",
                "drengine.db-wal",
                "drengine.db-shm",
                "locks",
                "objects",
            }
            store.release(lease)
    finally:
        os.umask(before)


def test_a_file_that_others_could_read_is_closed_to_them(home):
    SqliteStore(home).close()
    (home / "drengine.db").chmod(0o644)
    SqliteStore(home).close()
    assert mode_of(home / "drengine.db") == 0o600


def test_the_settings_that_durability_rests_on_are_in_force(home):
    with SqliteStore(home) as store, store._database.reading("looking") as db:
        found = {
            name: db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema")
        }
        made = db.execute("SELECT sql FROM sqlite_schema WHERE type = 'table' AND sql <> ''")
        loose = [sql for (sql,) in made if "STRICT" not in sql and "sqlite_" not in sql]
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "trusted_schema": 0,
    }
    assert loose == []
    with closing(raw(home)) as db:
        assert db.execute("PRAGMA application_id").fetchone()[0] == schema.APPLICATION_ID
        assert db.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION


def test_records_cannot_be_changed_or_removed_by_sql(home, writer):
    with SqliteStore(home) as store:
        writer(store, RUN).note()
        before = list(store.lines(RUN))
    with closing(raw(home)) as db:
        for sql in ("DELETE FROM records", "UPDATE records SET place = place + 10"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(sql)
    with SqliteStore(home) as store:
        assert list(store.lines(RUN)) == before


def test_a_store_is_read_again_by_a_new_object(home, writer):
    with SqliteStore(home) as store:
        chain = writer(store, RUN)
        wrote = [chain.note(n=n) for n in range(3)]
    with SqliteStore(home) as store:
        assert list(store.read(RUN))[1:] == wrote
        assert store.acquire(RUN, "again").token > chain.lease.token


def test_a_file_of_a_newer_version_is_refused_and_not_touched(home):
    SqliteStore(home).close()
    with closing(raw(home)) as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = (home / "drengine.db").read_bytes()
    with pytest.raises(JournalError, match="it has format 3, this drengine knows 2"):
        SqliteStore(home)
    assert (home / "drengine.db").read_bytes() == before


FIRST_FORMAT = """
    CREATE TABLE runs (
      run TEXT NOT NULL PRIMARY KEY, root TEXT NOT NULL, title TEXT NOT NULL,
      run_class TEXT NOT NULL, created_at_ms INTEGER NOT NULL, status TEXT NOT NULL,
      wake_at_ms INTEGER, token INTEGER NOT NULL, owner TEXT NOT NULL,
      head_seq INTEGER NOT NULL, head_sha256 TEXT NOT NULL
    ) STRICT;
    CREATE TABLE records (
      run TEXT NOT NULL REFERENCES runs (run), seq INTEGER NOT NULL, line BLOB NOT NULL,
      PRIMARY KEY (run, seq)
    ) STRICT;
    CREATE TRIGGER records_stay BEFORE DELETE ON records
    BEGIN SELECT RAISE(ABORT, 'a journal is append-only'); END;
    CREATE TRIGGER records_do_not_change BEFORE UPDATE ON records
    BEGIN SELECT RAISE(ABORT, 'a journal is append-only'); END;
"""


def in_first_format(home: Path) -> None:
    """Put the tables of runs and records back into the form that the first drengine gave them."""
    with closing(raw(home)) as db:
        runs = db.execute("SELECT * FROM runs").fetchall()
        lines = db.execute("SELECT run, seq, line FROM lines").fetchall()
        db.executescript("DROP VIEW lines; DROP TABLE records; DROP TABLE runs;" + FIRST_FORMAT)
        into_runs = "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        db.executemany(into_runs, [row[1:] for row in runs])
        db.executemany("INSERT INTO records VALUES (?, ?, ?)", reversed(lines))
        db.execute("PRAGMA user_version = 1")


def test_a_file_of_the_first_format_is_brought_up_and_goes_on(home, writer):
    others = [f"r-{n:012x}" for n in range(3)]
    with SqliteStore(home) as store:
        for run in (*others, RUN):
            chain = writer(store, run)
            for n in range(3):
                chain.note(n=n)
        before = {row.run: list(store.lines(row.run)) for row in store.runs()}
        rows = store.runs()
    in_first_format(home)
    with SqliteStore(home) as store:
        assert store.runs() == rows
        assert {run: list(store.lines(run)) for run in before} == before
        assert [record.body.get("n") for record in store.read(RUN)] == [None, 0, 1, 2]
        assert writer(store, RUN).note(n=3).seq == 4
        lease = store.acquire(RunId(others[0]), "again")
        assert lease.token == 2
    with closing(raw(home)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute("DELETE FROM records")
    with SqliteStore(home) as store:
        assert store.head(RUN).seq == 4


def test_a_file_of_the_first_format_stays_while_a_process_holds_a_run_of_it(home, writer):
    with SqliteStore(home) as store:
        writer(store, RUN).note()
        in_first_format(home)
        with pytest.raises(JournalError, match=f"still holds run {RUN}; nothing was changed"):
            SqliteStore(home)
    with closing(raw(home)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 1
        assert db.execute("SELECT count(*) FROM records").fetchone()[0] == 2
    with SqliteStore(home) as store:
        assert store.head(RUN).seq == 1


def test_the_runs_of_a_store_do_not_meet_at_their_ends(home, writer):
    with SqliteStore(home) as store:
        chains = [writer(store, f"r-{n:012x}") for n in range(3)]
        for n in range(2):
            for chain in reversed(chains):
                chain.note(n=n)
        for chain in chains:
            assert [line.count(b'"n":') for line in store.lines(chain.run)] == [0, 1, 1]
            assert [record.seq for record in store.read(chain.run, 1)] == [2]
            assert store.head(chain.run) == chain.head


def test_a_file_of_another_program_is_refused(home):
    home.mkdir(parents=True, mode=0o700)
    with closing(raw(home)) as db:
        db.execute("CREATE TABLE notes (text)")
    with pytest.raises(JournalError, match="belongs to another program"):
        SqliteStore(home)


def test_a_file_that_is_not_sqlite_is_damage(home):
    home.mkdir(parents=True, mode=0o700)
    (home / "drengine.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalDamaged, match="not a database"):
        SqliteStore(home)


def test_a_link_in_place_of_the_file_is_refused(home, tmp_path):
    home.mkdir(parents=True, mode=0o700)
    (home / "drengine.db").symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(JournalError, match="symbolic link"):
        SqliteStore(home)
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_home_that_is_a_file_is_refused_with_a_reason(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(JournalError, match=r"opening the journal store in .*File exists") as error:
        SqliteStore(path)
    assert "DRENGINE_HOME" in error.value.hint


def test_a_home_below_a_file_is_refused_with_a_reason(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="Not a directory"):
        SqliteStore(tmp_path / "file" / "home")


def test_a_home_that_others_may_write_is_refused(home):
    home.mkdir(parents=True)
    home.chmod(0o770)
    with pytest.raises(JournalError, match=r"other users may write there \(mode 0770\)") as error:
        SqliteStore(home)
    assert error.value.hint == f"chmod 700 {home}"
    assert list(home.iterdir()) == []


@needs_user
def test_a_home_that_cannot_be_written_is_refused(home):
    home.mkdir(parents=True)
    home.chmod(0o500)
    with pytest.raises(JournalError, match="not writable"):
        SqliteStore(home)


def test_a_missing_setting_is_refused(home, monkeypatch):
    monkeypatch.setitem(schema._SETTINGS, "synchronous", 9)
    with pytest.raises(JournalError, match="setting synchronous is"):
        SqliteStore(home)


# failures


class Failing:
    """A connection whose next statement of one kind fails."""

    def __init__(self, db: sqlite3.Connection, word: str, *, rolls_back: bool = False) -> None:
        self._db = db
        self._word = word
        self._rolls_back = rolls_back
        self.rollbacks = 0

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        if sql.startswith("ROLLBACK"):
            self.rollbacks += 1
        if sql.startswith(self._word):
            if self._rolls_back:
                self._db.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")
        return self._db.execute(sql, *values)

    def __getattr__(self, name: str) -> object:
        return getattr(self._db, name)


@pytest.mark.parametrize("word", ["BEGIN", "INSERT INTO records", "UPDATE runs", "COMMIT"])
@pytest.mark.parametrize("rolls_back", [False, True])
def test_after_a_failed_statement_the_store_refuses_everything(home, writer, word, rolls_back):
    with SqliteStore(home) as store:
        chain = writer(store, RUN)
        chain.note(n=1)
        failing = Failing(store._database.db, word, rolls_back=rolls_back and word != "BEGIN")
        store._database.db = failing
        with pytest.raises(StoreFailed, match="disk is full; whether it is durable is not known"):
            chain.note(n=2)
        store._database.db = failing._db
        assert not failing._db.in_transaction
        assert failing.rollbacks == (0 if rolls_back or word == "BEGIN" else 1)
        for refused in (
            lambda: chain.note(n=3),
            lambda: store.head(RUN),
            lambda: list(store.read(RUN)),
            store.runs,
            lambda: store.peek_signals(RUN),
        ):
            with pytest.raises(StoreFailed, match="must be opened anew"):
                refused()
    with SqliteStore(home) as store:
        assert [record.body.get("n") for record in store.read(RUN)] == [None, 1]
        assert writer(store, RUN).note(n=2).seq == 2


def test_a_run_that_could_not_be_taken_is_not_held(home, writer):
    with SqliteStore(home) as store, SqliteStore(home) as other:
        writer(store, RUN).release()
        store._database.db = Failing(store._database.db, "UPDATE runs SET token")
        with pytest.raises(StoreFailed):
            store.acquire(RUN, "x")
        store._database.db = store._database.db._db
        assert other.acquire(RUN, "other").token == 2


def test_a_failed_sync_of_an_object_stops_the_store(home, writer, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with SqliteStore(home) as store:
        chain = writer(store, RUN)
        monkeypatch.setattr(objects, "write_whole", full)
        with pytest.raises(StoreFailed, match="keeping an object failed"):
            store.put_object(b"x")
        with pytest.raises(StoreFailed, match="must be opened anew"):
            chain.note()


def test_a_closed_store_says_that_it_was_closed(home):
    store = SqliteStore(home)
    store.close()
    store.close()
    with pytest.raises(StoreFailed, match="it was closed"):
        store.runs()


def test_an_error_that_is_not_of_the_store_leaves_it_usable(home, writer):
    with SqliteStore(home) as store:
        chain = writer(store, RUN)
        with pytest.raises(OverflowError):
            store.set_status(chain.lease, "waiting", 1 << 70)
        assert chain.note().seq == 1


def test_threads_take_turns(home, writer):
    with SqliteStore(home) as store:
        chains = [writer(store, f"r-{n:012x}") for n in range(4)]
        threads = [
            threading.Thread(target=lambda c=c: [c.note(n=n) for n in range(25)]) for c in chains
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [store.head(chain.run).seq for chain in chains] == [25] * 4


def test_a_damaged_page_is_an_error_of_the_store(home, writer, draft):
    with SqliteStore(home) as store:
        chain = writer(store, RUN)
        chain.append(*(draft(text="x" * 3000) for _ in range(50)))
    path = home / "drengine.db"
    content = bytearray(path.read_bytes())
    for page in range(12, len(content) // 4096, 3):
        content[page * 4096 : page * 4096 + 16] = b"\xff" * 16
    path.write_bytes(content)
    with SqliteStore(home) as store, pytest.raises((StoreFailed, JournalDamaged)):
        list(store.read(RUN))


def test_a_changed_document_is_damage(home):
    with SqliteStore(home) as store:
        store.put_document(RUN, "plan", {"a": 1})
    with closing(raw(home)) as db:
        db.execute("UPDATE documents SET doc = ?", (b'{"a":2}',))
    with SqliteStore(home) as store, pytest.raises(JournalDamaged, match="not what was written"):
        store.get_document(RUN, "plan")


def test_a_changed_signal_is_damage(home, writer):
    from drengine.model.records import Signal

    with SqliteStore(home) as store:
        writer(store, RUN)
        store.put_signal(Signal("s-1", RUN, "approve", "operator:ada", {}, 1))
    with closing(raw(home)) as db:
        db.execute("UPDATE signals SET body = ?", (b"{",))
    with SqliteStore(home) as store, pytest.raises(JournalDamaged, match="signal 's-1'"):
        store.peek_signals(RUN)


def test_a_head_that_was_moved_back_in_the_file_is_refused(home, writer):
    with SqliteStore(home) as store:
        chain = writer(store, RUN)
        old = chain.head
        chain.note()
    with closing(raw(home)) as db:
        db.execute("UPDATE runs SET head_seq = ?, head_sha256 = ?", (old.seq, old.sha256))
    with SqliteStore(home) as store:
        lease = store.acquire(RUN, "x")
        with pytest.raises(JournalDamaged, match="record 0: the chain should end with it"):
            store.append(lease, Head(old.seq, old.sha256), [chain.make()])


def test_only_the_first_append_of_a_lease_has_to_hash_the_line_before(home, writer, monkeypatch):
    looks = []
    look = tables.checked_end
    monkeypatch.setattr(tables, "checked_end", lambda db, run: looks.append(run) or look(db, run))
    with SqliteStore(home) as store:
        chain = writer(store, RUN)
        looks.clear()
        for n in range(3):
            chain.note(n=n)
        assert looks == [RUN]


def test_the_wait_for_another_writer_is_bounded_and_ends_in_a_failure(home, writer, monkeypatch):
    monkeypatch.setitem(schema._SETTINGS, "busy_timeout", 50)
    with SqliteStore(home) as store, closing(raw(home)) as other:
        chain = writer(store, RUN)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFailed, match="locked"):
            chain.note()
        other.execute("ROLLBACK")


def test_the_reason_of_a_failed_opening_is_told(home):
    def broken(_: Path) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    with pytest.raises(JournalError, match="unable to open database file; nothing was changed"):
        SqliteStore(home, connect=broken)
