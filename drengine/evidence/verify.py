"""Checks an evidence folder and says everything that is wrong with it.

It believes no file: digests are recomputed, chains are followed record by record, the
lifecycle is folded again, the facts are collected again, and what the report shows is
rendered again and compared.

What it cannot see without a signature is written in `VerifyReport.notes`: whoever can
rewrite every file consistently is not caught here, but by a digest kept elsewhere.

Reads only. Never follows a symbolic link, and reads nothing above `MAX_FILE_BYTES`.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Final, Protocol

import drengine
from drengine.errors import DrError
from drengine.evidence.agreement import JUDGED, Agreement, differences
from drengine.evidence.bundle import FOLDER, Layout
from drengine.evidence.collect import Gathering, read_plan
from drengine.evidence.family import KIN, Family
from drengine.evidence.folder import JOURNALS, facts_bytes
from drengine.evidence.numbers import numbers_of, read_numbers
from drengine.evidence.render import render_html
from drengine.evidence.sums import MAX_SUMS_BYTES, SUMS, is_safe_name, read_sums
from drengine.journal import verify as journal_verify
from drengine.journal.verify import Problem
from drengine.model.canonical import parse_canonical
from drengine.model.facts import FACTS_SCHEMA, EvidenceFacts
from drengine.model.ids import RunId
from drengine.model.plan import Plan
from drengine.model.records import Record

MAX_FILE_BYTES: Final = 1 << 30
MAX_DOCUMENT_BYTES: Final = 64 << 20
MAX_FILES: Final = 100_000
_BLOCK: Final = 8 << 20
"""So much is read and hashed at once that a thread seldom has to ask for the interpreter."""

UNFORESEEN: Final = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
"""An edited body that no check foresaw is a problem to be listed, not a traceback."""

_UNSIGNED: Final = (
    "There is no signature: this check shows that the folder agrees with itself, not who made it."
)


class Watch(Protocol):
    """Looks at what a verification reads, chain by chain, in order of run ids."""

    def take(self, record: Record) -> Iterable[str]:
        """Return what is wrong with the next record."""
        ...


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found.

    Attributes:
        problems: everything that does not hold, in order of the checks.
        notes: what this verification could not check.
        facts: recomputed from the journals; None where they could not be.
        sums_sha256: digest of SHA256SUMS, to be compared with the one kept elsewhere; empty
            where there is none.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    facts: EvidenceFacts | None
    sums_sha256: str

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def verify_folder(path: Path) -> VerifyReport:
    """Check an evidence folder; every problem is listed, not only the first."""
    if path.is_symlink() or not path.is_dir():
        problem = Problem(str(path), "is not a folder of evidence")
        return VerifyReport((problem,), (), None, "")
    return FolderCheck(path).run()


@dataclass(slots=True)
class FolderCheck:
    """The checks that a folder and a sealed bundle share.

    Attributes:
        rendered_by: the version that the report says made it; None where it says none.
    """

    folder: Path
    layout: Layout = FOLDER
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=lambda: [_UNSIGNED])
    files: dict[str, Path] = field(default_factory=dict)
    sums_sha256: str = ""
    watch: Watch | None = None
    rendered_by: str | None = None
    _is_planned: bool = False
    _planned: Plan | None = None
    _digests: dict[str, str] = field(default_factory=dict)
    _is_over: Event = field(default_factory=Event)

    def run(self) -> VerifyReport:
        """Check everything."""
        self.list_files()
        with self.sums_beside():
            facts = self.check_journals()
        self.refuse_without(facts)
        return VerifyReport(tuple(self.problems), tuple(self.notes), facts, self.sums_sha256)

    def check_journals(self) -> EvidenceFacts | None:
        """Follow every chain, collect the facts and compare what was made of them."""
        # A journal that is no plain file is not opened at all.
        if not self._has_plain_journals():
            return None
        plan = self.plan
        register = self.optional(self.layout.approvers)
        taking = None if plan is None else _Taking(plan, self.watch, register)
        self.problems += journal_verify.verify_folder(self.folder, follower=taking)
        if taking is None:
            return None
        self.problems += taking.problems
        self.problems += taking.missing()
        facts = self._collect(taking)
        if facts is not None:
            self._check_facts(facts)
            self._check_report(facts)
        return facts

    def refuse_without(self, facts: EvidenceFacts | None) -> None:
        """See to it that what gave no facts never holds, whatever the reason was."""
        if facts is None and not self.problems:
            self.problem(str(self.folder), "gave no facts, so that nothing was compared")

    def problem(self, place: str, reason: str) -> None:
        """Note something that does not hold."""
        self.problems.append(Problem(place, reason))

    # files and digests

    def list_files(self) -> None:
        """Take every plain file with a good name; what is left out is a problem."""
        for place, folders, names in os.walk(self.folder):
            here = Path(place)
            for name in (*folders, *names):
                self._take(here / name, is_folder=name in folders)
            # One among the journals is told with them: nothing of them is read then.
            if (
                not folders
                and not names
                and here != self.folder
                and JOURNALS not in (here.name, here.parent.name)
            ):
                self.problem(here.relative_to(self.folder).as_posix(), "is an empty folder")
            folders[:] = [name for name in folders if not (here / name).is_symlink()]
            if len(self.files) > MAX_FILES:
                self.problem(str(self.folder), f"holds more than {MAX_FILES} files")
                break
        seen: dict[str, str] = {}
        for name in sorted(self.files):
            if (other := seen.setdefault(name.lower(), name)) != name:
                self.problem(name, f"differs from {other} only in upper and lower case")

    def _take(self, file: Path, *, is_folder: bool) -> None:
        name = file.relative_to(self.folder).as_posix()
        found = file.lstat()
        if stat.S_ISLNK(found.st_mode):
            self.problem(name, "is a symbolic link; it was not followed")
        elif not is_safe_name(name):
            self.problem(repr(name), "is not a name that evidence uses")
        elif is_folder:
            return
        elif not stat.S_ISREG(found.st_mode):
            self.problem(name, "is not a plain file")
        elif found.st_nlink > 1:
            self.problem(name, "has a second name somewhere (a hard link); it may change unseen")
        elif found.st_size > MAX_FILE_BYTES:
            self.problem(name, f"has {found.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
        else:
            self.files[name] = file

    @contextmanager
    def sums_beside(
        self, is_outside: Callable[[str], bool] = lambda name: name == SUMS
    ) -> Iterator[None]:
        """Compare every file but those outside with SHA256SUMS while the block does something else.

        What is found stands before what the block finds. Reading and hashing of large files
        leave the interpreter to the block, which is busy with records.
        """
        place = len(self.problems)
        with ThreadPoolExecutor(1) as beside:
            found = beside.submit(lambda: list(self._sums(is_outside)))
            try:
                yield
            except BaseException:
                self._is_over.set()  # nobody waits for the rest of a large file
                raise
            self.problems[place:place] = found.result()

    def _sums(self, is_outside: Callable[[str], bool]) -> Iterator[Problem]:
        try:
            data = self._content(SUMS, MAX_SUMS_BYTES)
            self.sums_sha256 = hashlib.sha256(data).hexdigest()
            named = read_sums(data)
        except ValueError as error:
            yield Problem(SUMS, str(error))
            return
        for name in sorted(named.keys() - self.files.keys()):
            yield Problem(name, f"is missing, but {SUMS} names it")
        unnamed = self.files.keys() - named.keys()
        for name in sorted(name for name in unnamed if not is_outside(name)):
            yield Problem(name, f"is not named in {SUMS}")
        for name in sorted(named.keys() & self.files.keys()):
            if self._is_over.is_set():
                return
            if is_outside(name):
                yield Problem(name, f"is named in {SUMS}, where it cannot be")
            elif (found := self.digest(name)) != named[name]:
                yield Problem(name, f"has the digest {found}, but {SUMS} says {named[name]}")

    def digest(self, name: str) -> str:
        """Return a file's SHA-256, computed once; empty where there is no such file."""
        if name in self.files and name not in self._digests:
            self._digests[name] = file_sha256(self.files[name], self._is_over)
        return self._digests.get(name, "")

    def document(self, name: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes | None:
        """Return a file's bytes; None, and a problem, where it is missing or too large."""
        try:
            return self._content(name, limit)
        except ValueError as error:
            self.problem(name, str(error))
            return None

    def _content(self, name: str, limit: int) -> bytes:
        file = self.files.get(name)
        if file is None:
            raise ValueError("is missing")
        if file.stat().st_size > limit:
            raise ValueError(f"is larger than {limit:,} bytes")
        return file.read_bytes()

    def _has_plain_journals(self) -> bool:
        journals = self.folder / JOURNALS
        if journals.is_symlink() or not journals.is_dir():
            self.problem(JOURNALS, "is missing")
            return False
        names = sorted(f"{JOURNALS}/{file.name}" for file in journals.iterdir())
        odd = [name for name in names if name not in self.files]
        told = {problem.place for problem in self.problems}
        for name in odd:
            if name not in told:
                self.problem(name, "is not a plain file; no journal was read")
        return not odd

    # plan, chains, facts

    @property
    def plan(self) -> Plan | None:
        """The plan, read once; None, and a problem, where there is none to be read."""
        if not self._is_planned:
            self._is_planned, self._planned = True, self._read_plan()
        return self._planned

    def _read_plan(self) -> Plan | None:
        data = self.document(self.layout.plan)
        if data is None:
            return None
        try:
            return read_plan(parse_canonical(data.removesuffix(b"\n")))
        except (DrError, ValueError) as error:
            self.problem(self.layout.plan, str(error))
            return None

    def optional(self, name: str) -> Mapping[str, Any] | None:
        """Return a document that not every folder has; None where it cannot be read either."""
        if name not in self.files:
            return None
        try:
            data = self._content(name, MAX_DOCUMENT_BYTES)
            return parse_canonical(data.removesuffix(b"\n"))
        except ValueError as error:
            self.problem(name, str(error))
            return None

    def _collect(self, taking: _Taking) -> EvidenceFacts | None:
        if not taking.is_whole:
            return None
        try:
            return taking.gathering.facts()
        except DrError as error:
            self.problem(JOURNALS, error.message)
        except UNFORESEEN as error:
            self.problem(JOURNALS, f"no facts can be made of them: {type(error).__name__} {error}")
        return None

    def _check_facts(self, facts: EvidenceFacts) -> None:
        data = self.document(self.layout.facts)
        if data is None or data == facts_bytes(facts):
            return
        try:
            said: Any = _parsed(data)
        except ValueError as error:
            self.problem(self.layout.facts, str(error))
            return
        if said.get("schema") != FACTS_SCHEMA:
            self.problem(self.layout.facts, f"its schema is not {FACTS_SCHEMA}")
            return
        found = differences(said, facts.to_json())
        for where in found or ["it is not laid out as drengine writes it"]:
            self.problem(self.layout.facts, f"differs from the journals: {where}")

    def _check_report(self, facts: EvidenceFacts) -> None:
        data = self.document(self.layout.report)
        if data is None:
            return
        said = read_numbers(data.decode("utf-8", "replace"))
        if said is None:
            self.problem(self.layout.report, "does not hold its numbers exactly once")
            return
        self.rendered_by = said.get("version", "")
        expected: Mapping[str, str] = numbers_of(facts, self.rendered_by)
        for where in differences(said, dict(expected)):
            self.problem(self.layout.report, f"a number differs from the journals: {where}")
        if said.get("version") != drengine.__version__:
            self.notes.append(
                f"{self.layout.report} was rendered by drengine {said.get('version', '?')[:20]},"
                f" this is {drengine.__version__}: its numbers were compared, its text was not."
            )
        elif data != render_html(facts, self.optional(self.layout.actions)).encode():
            self.problem(self.layout.report, "is not the page that these journals give")


@dataclass(slots=True)
class _Taking:
    """Makes facts of the chains while the journal's own check follows them."""

    plan: Plan
    watch: Watch | None
    register: Mapping[str, Any] | None
    gathering: Gathering = field(init=False)
    family: Family = field(init=False)
    problems: list[Problem] = field(default_factory=list)
    is_whole: bool = True
    _agreement: Agreement = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.gathering = Gathering(self.plan, self.register)
        self.family = Family(self.plan)

    def take(self, record: Record) -> None:
        """Take in a record; after one that fits nowhere, nothing more."""
        if not self.is_whole:
            return
        try:
            self.gathering.take_one(record)
            if record.seq == 0:
                self._agreement = Agreement(self.plan)
            if record.type in JUDGED:
                self._heed(record, self._agreement.take(record))
            if record.type in KIN:
                self._heed(record, self.family.take(record))
            if self.watch is not None:
                self._heed(record, self.watch.take(record))
        except DrError as error:
            self._stop(record, error.message)
        except UNFORESEEN as error:
            self._stop(record, f"record {record.seq}: {type(error).__name__} {error}")

    def missing(self) -> list[Problem]:
        """Return what is wrong with the chains as a family, where each was whole."""
        found = self.family.problems() if self.is_whole else ()
        return [Problem(run, why) for run, why in found]

    def broken(self, run: RunId) -> None:
        """Learn that a chain cannot be followed to its end."""
        del run
        self.is_whole = False

    def _heed(self, record: Record, found: Iterable[str]) -> None:
        for reason in found:
            self.problems.append(Problem(record.run, reason))

    def _stop(self, record: Record, reason: str) -> None:
        self.problems.append(Problem(record.run, reason))
        self.is_whole = False


def _parsed(data: bytes) -> dict[str, Any]:
    """Return the object that `facts.json` holds; raises ValueError for anything odd."""
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found


def file_sha256(file: Path, is_over: Event) -> str:
    """Return the SHA-256 of a file, read in blocks; of its beginning where all is over."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while not is_over.is_set() and (block := stream.read(_BLOCK)):
            digest.update(block)
    return digest.hexdigest()
