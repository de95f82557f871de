"""The time stamps of a sealed bundle: what each shows, and what it cannot.

Rules:
- A stamp counts only by an authority that the verifier's own trust folder knows.
- A stamp shows that records were there at its time, not since when. One that was made
  `LATE_MS` or more after a record is no cover for it: whoever rewrote it may have had it
  stamped. Such a gap is said.
- A stamp from before the record that it covers is a lie of one of the two clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from drengine.evidence.bundle import ATTESTATION, STAMPS, is_stamp
from drengine.evidence.stamps import EARLY_MS, LATE_MS, MAX_TOKEN_BYTES, check_stamp
from drengine.evidence.verify import FolderCheck
from drengine.evidence.watching import BundleWatch
from drengine.evidence.words import duration, utc
from drengine.trust.dsse import MAX_ENVELOPE_BYTES, parse_json

CHECKPOINT: Final = "drengine/checkpoint/v1"
STAMPS_SCHEMA: Final = "drengine/stamps/v1"
_ATTEMPT: Final = {"tsa", "token", "why"}

Head = tuple[str, int, str]


@dataclass(slots=True)
class StampCheck:
    """Reads checkpoints and stamps of one bundle, and says what they anchor.

    Attributes:
        stamps: (file, time as the authority writes it) of every stamp that verifies.
        sealed_ms: the times of the stamps over the seal.
    """

    check: FolderCheck
    tsa: Path | None
    stamps: list[tuple[str, str]] = field(default_factory=list)
    sealed_ms: list[int] = field(default_factory=list)
    _checkpoints: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def wanted(self) -> dict[str, set[int]]:
        """Read the checkpoints; return run -> the records whose digests they name."""
        wanted: dict[str, set[int]] = {}
        for name in sorted(self.check.files):
            if name.startswith("checkpoints/") and name.endswith(".json"):
                self._read(name)
        for doc in self._checkpoints.values():
            for run, seq, _ in heads_of(doc):
                wanted.setdefault(run, set()).add(seq)
        return wanted

    def _read(self, name: str) -> None:
        data = self.check.document(name, MAX_ENVELOPE_BYTES)
        if data is None:
            return
        try:
            doc = parse_json(data)
        except ValueError as error:
            self.check.problem(name, str(error))
            return
        rows = doc.get("heads") if isinstance(doc, dict) else None
        if not isinstance(doc, dict) or doc.get("schema") != CHECKPOINT:
            self.check.problem(name, f"is not of schema {CHECKPOINT}")
        elif not isinstance(rows, list) or len(heads_of(doc)) != len(rows):
            self.check.problem(name, "has heads that name no run, record and SHA-256")
        else:
            self._checkpoints[name] = doc

    def run(self, watch: BundleWatch | None) -> None:
        """Check every stamp; let those that count anchor what they cover."""
        self._attempts()
        for name in sorted(name for name in self.check.files if is_stamp(name)):
            if (at_ms := self._stamp(ATTESTATION, name)) is not None:
                self.sealed_ms.append(at_ms)
                if watch is not None and watch.newest_ms - at_ms > EARLY_MS:
                    newest = utc(watch.newest_ms)
                    self.check.problem(name, f"is from before the newest record, {newest}")
        for name, doc in self._checkpoints.items():
            token = f"{name.removesuffix('.json')}.tsr"
            if token not in self.check.files:
                why = doc.get("unstamped", "no reason")
                self.check.notes.append(f"{name} was not stamped: {why}")
            elif (at_ms := self._stamp(name, token)) is not None and watch is not None:
                self._anchor(watch, doc, (name, token), at_ms)

    def _anchor(
        self, watch: BundleWatch, doc: Mapping[str, Any], names: tuple[str, str], at_ms: int
    ) -> None:
        newest: list[tuple[int, str]] = []
        for head in heads_of(doc):
            why, shown_ms = watch.anchor(*head, at_ms)
            if why:
                self.check.problem(names[0], why)
            else:
                newest.append((shown_ms, f"record {head[1]} of {head[0]}"))
        if newest and (gap := at_ms - max(newest)[0]) > LATE_MS:
            self.check.notes.append(
                f"{names[1]} was made {duration(gap)} after the newest record that it covers,"
                f" {max(newest)[1]}: it does not show that these records are as they were made."
            )

    def _stamp(self, data: str, token: str) -> int | None:
        """Return a stamp's time where it verifies."""
        check = self.check
        if data not in check.files:
            return None
        if check.files[token].stat().st_size > MAX_TOKEN_BYTES:
            check.problem(token, f"is larger than {MAX_TOKEN_BYTES:,} bytes")
            return None
        if self.tsa is None:
            check.notes.append(f"{token}: the trust folder has no root for time stamps.")
            return None
        found = check_stamp(check.files[data], check.files[token], self.tsa)
        if found.why:
            check.problem(token, found.why)
            return None
        self.stamps.append((token, found.time))
        return found.at_ms

    def _attempts(self) -> None:
        """Miss the stamps that the list of attempts names; the list stands beside the seal."""
        if STAMPS not in self.check.files:
            return
        data = self.check.document(STAMPS, MAX_ENVELOPE_BYTES)
        try:
            doc = parse_json(data or b"")
        except ValueError as error:
            self.check.problem(STAMPS, str(error))
            return
        rows = doc.get("attempts") if isinstance(doc, dict) else None
        is_list = isinstance(rows, list) and all(_is_attempt(row) for row in rows)
        if not is_list or doc.keys() != {"schema", "attempts"} or doc["schema"] != STAMPS_SCHEMA:
            self.check.problem(STAMPS, f"is not a list of attempts of schema {STAMPS_SCHEMA}")
            return
        for row in rows or ():
            if row["token"] is not None and row["token"] not in self.check.files:
                self.check.problem(row["token"], f"is missing, but {STAMPS} names it")


def _is_attempt(row: object) -> bool:
    if not isinstance(row, dict) or row.keys() != _ATTEMPT:
        return False
    token = row["token"]
    texts = isinstance(row["tsa"], str) and isinstance(row["why"], str)
    return texts and (token is None or (isinstance(token, str) and is_stamp(token)))


def heads_of(doc: Mapping[str, Any]) -> list[Head]:
    """Return the heads that a checkpoint names, as far as they are heads."""
    rows = doc.get("heads")
    return [
        (row["run"], row["seq"], row["sha256"])
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict)
        and isinstance(row.get("run"), str)
        and type(row.get("seq")) is int
        and isinstance(row.get("sha256"), str)
    ]
