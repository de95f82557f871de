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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import drengine
from drengine.errors import DrError, JournalDamaged
from drengine.evidence.agreement import chain_problems, differences
from drengine.evidence.collect import Gathering, read_plan
from drengine.evidence.folder import FACTS_FILE, JOURNALS, PLAN_FILE, REPORT_FILE, facts_bytes
from drengine.evidence.numbers import numbers_of, read_numbers
from drengine.evidence.render import render_html
from drengine.evidence.sums import MAX_SUMS_BYTES, SUMS, is_safe_name, read_sums
from drengine.journal import verify as journal_verify
from drengine.journal.codec import parse_canonical, records_of, split_lines
from drengine.journal.verify import Problem
from drengine.model.facts import FACTS_SCHEMA, EvidenceFacts
from drengine.model.ids import RunId
from drengine.model.plan import Plan
from drengine.model.records import Record

MAX_FILE_BYTES: Final = 1 << 30
MAX_DOCUMENT_BYTES: Final = 64 << 20
MAX_FILES: Final = 100_000
_BLOCK: Final = 1 << 20

_UNFORESEEN: Final = (KeyError, TypeError, ValueError, AttributeError)
"""An edited body that no check foresaw is a problem to be listed, not a traceback."""

_UNSIGNED: Final = (
    "There is no signature: this check shows that the folder agrees with itself, not who made it."
)


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
    return _Verification(path).run()


@dataclass(slots=True)
class _Verification:
    folder: Path
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=lambda: [_UNSIGNED])
    files: dict[str, Path] = field(default_factory=dict)
    sums_sha256: str = ""

    def run(self) -> VerifyReport:
        self._list()
        self._check_sums()
        facts = None
        # A journal that is no plain file is not opened at all.
        if self._has_plain_journals():
            self.problems += journal_verify.verify_folder(self.folder)
            facts = self._collect()
        if facts is not None:
            self._check_facts(facts)
            self._check_report(facts)
        return VerifyReport(tuple(self.problems), tuple(self.notes), facts, self.sums_sha256)

    def _problem(self, place: str, reason: str) -> None:
        self.problems.append(Problem(place, reason))

    # files and digests

    def _list(self) -> None:
        for place, folders, names in os.walk(self.folder):
            here = Path(place)
            for name in (*folders, *names):
                self._take(here / name, is_folder=name in folders)
            folders[:] = [name for name in folders if not (here / name).is_symlink()]
            if len(self.files) > MAX_FILES:
                self._problem(str(self.folder), f"holds more than {MAX_FILES} files")
                return

    def _take(self, file: Path, *, is_folder: bool) -> None:
        name = file.relative_to(self.folder).as_posix()
        found = file.lstat()
        if stat.S_ISLNK(found.st_mode):
            self._problem(name, "is a symbolic link; it was not followed")
        elif not is_safe_name(name):
            self._problem(repr(name), "is not a name that evidence uses")
        elif is_folder:
            return
        elif not stat.S_ISREG(found.st_mode):
            self._problem(name, "is not a plain file")
        elif found.st_size > MAX_FILE_BYTES:
            self._problem(name, f"has {found.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
        else:
            self.files[name] = file

    def _check_sums(self) -> None:
        data = self._document(SUMS, MAX_SUMS_BYTES)
        if data is None:
            return
        self.sums_sha256 = hashlib.sha256(data).hexdigest()
        try:
            named = read_sums(data)
        except ValueError as error:
            self._problem(SUMS, str(error))
            return
        for name in sorted(named.keys() - self.files.keys()):
            self._problem(name, f"is missing, but {SUMS} names it")
        for name in sorted(self.files.keys() - named.keys() - {SUMS}):
            self._problem(name, f"is not named in {SUMS}")
        for name in sorted(named.keys() & self.files.keys()):
            if (found := _sha256(self.files[name])) != named[name]:
                self._problem(name, f"has the digest {found}, but {SUMS} says {named[name]}")

    def _document(self, name: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes | None:
        file = self.files.get(name)
        if file is None:
            self._problem(name, "is missing")
            return None
        if file.stat().st_size > limit:
            self._problem(name, f"is larger than {limit:,} bytes")
            return None
        return file.read_bytes()

    def _has_plain_journals(self) -> bool:
        journals = self.folder / JOURNALS
        if journals.is_symlink() or not journals.is_dir():
            self._problem(JOURNALS, "is missing")
            return False
        return all(f"{JOURNALS}/{file.name}" in self.files for file in journals.iterdir())

    # plan, chains, facts

    def _plan(self) -> Plan | None:
        data = self._document(PLAN_FILE)
        if data is None:
            return None
        try:
            return read_plan(parse_canonical(data.removesuffix(b"\n")))
        except (DrError, ValueError) as error:
            self._problem(PLAN_FILE, str(error))
            return None

    def _collect(self) -> EvidenceFacts | None:
        plan = self._plan()
        if plan is None:
            return None
        gathering = Gathering(plan)
        for name in sorted(self.files):
            if name.startswith(f"{JOURNALS}/") and not self._follow(name, plan, gathering):
                return None
        try:
            return gathering.facts()
        except DrError as error:
            self._problem(JOURNALS, error.message)
        except _UNFORESEEN as error:
            self._problem(JOURNALS, f"no facts can be made of them: {type(error).__name__} {error}")
        return None

    def _follow(self, name: str, plan: Plan, gathering: Gathering) -> bool:
        """Take one journal into the facts; False where it breaks off."""
        run = RunId(name.removeprefix(f"{JOURNALS}/").removesuffix(".jsonl").replace("~", "/"))
        seen: list[Record] = []
        try:
            for record in _records(self.files[name], run):
                seen.append(record)
                gathering.take([record])
        except JournalDamaged as error:
            # What the codec refuses, the check of the chains has told already.
            if not any(problem.reason == error.message for problem in self.problems):
                self._problem(run, error.message)
            return False
        except DrError as error:
            self._problem(run, error.message)
            return False
        except _UNFORESEEN as error:
            self._problem(run, f"record {len(seen) - 1}: {type(error).__name__} {error}")
            return False
        self.problems += [Problem(run, reason) for reason in chain_problems(seen, plan)]
        return True

    def _check_facts(self, facts: EvidenceFacts) -> None:
        data = self._document(FACTS_FILE)
        if data is None or data == facts_bytes(facts):
            return
        try:
            said: Any = _parsed(data)
        except ValueError as error:
            self._problem(FACTS_FILE, str(error))
            return
        if said.get("schema") != FACTS_SCHEMA:
            self._problem(FACTS_FILE, f"its schema is not {FACTS_SCHEMA}")
            return
        found = differences(said, facts.to_json())
        for where in found or ["it is not laid out as drengine writes it"]:
            self._problem(FACTS_FILE, f"differs from the journals: {where}")

    def _check_report(self, facts: EvidenceFacts) -> None:
        data = self._document(REPORT_FILE)
        if data is None:
            return
        said = read_numbers(data.decode("utf-8", "replace"))
        if said is None:
            self._problem(REPORT_FILE, "does not hold its numbers exactly once")
            return
        expected: Mapping[str, str] = numbers_of(facts, said.get("version", ""))
        for where in differences(said, dict(expected)):
            self._problem(REPORT_FILE, f"a number differs from the journals: {where}")
        if said.get("version") != drengine.__version__:
            self.notes.append(
                f"{REPORT_FILE} was rendered by drengine {said.get('version', '?')[:20]}, this is"
                f" {drengine.__version__}: its numbers were compared, its text was not."
            )
        elif data != render_html(facts).encode():
            self._problem(REPORT_FILE, "is not the page that these journals give")


def _records(file: Path, run: RunId) -> Iterator[Record]:
    with file.open("rb") as stream:
        yield from records_of(split_lines(stream), run)


def _parsed(data: bytes) -> dict[str, Any]:
    """Return the object that `facts.json` holds; raises ValueError for anything odd."""
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
