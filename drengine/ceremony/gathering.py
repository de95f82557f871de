"""The contributions of an open ceremony: taken in, refused, and taken out again.

Not here: what makes one good (`checking`), the transcript (`minutes`), opening shares.

Rules:
- Each custodian counts once. Who comes second under a certificate, name or signing key is
  refused and told how to take the first one's place: nobody can lock another out, and
  nothing is replaced in silence.
- A contribution counts once it is noted, and no longer once its dropping is.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from drengine.ceremony.checking import (
    check_contribution,
    counted_twice,
    drop_command,
    find_same,
)
from drengine.ceremony.contribution import Contribution, parse_contribution
from drengine.ceremony.files import replace_private
from drengine.ceremony.folder import ATTESTATIONS_NAME
from drengine.ceremony.minutes import Minutes
from drengine.ceremony.request import CeremonyRequest, same_person
from drengine.ceremony.transcript import Draft, remark
from drengine.errors import CeremonyError, DrError
from drengine.model.canonical import sha256_hex

if TYPE_CHECKING:
    from pathlib import Path

    from drengine.ceremony.contribution import Statement

_MARK: Final = 8


class Gathering:
    """Who contributed to one ceremony."""

    def __init__(self, folder: Path, request: CeremonyRequest, minutes: Minutes) -> None:
        self._folder = folder
        self._request = request
        self._minutes = minutes
        self._taken: dict[str, Contribution] = {}
        self._dropped: dict[str, str] = {}
        (folder / ATTESTATIONS_NAME).mkdir(mode=0o700, exist_ok=True)

    @property
    def count(self) -> int:
        """How many custodians contributed."""
        return len(self._taken)

    @property
    def thumbprints(self) -> list[str]:
        """The x5t#S256 of those who contributed."""
        return list(self._taken)

    @property
    def messages(self) -> list[bytes]:
        """The contributions, as they were handed in."""
        return [one.to_bytes() for one in self._taken.values()]

    def add(self, data: bytes, now_ms: int) -> str:
        """Take a contribution in; return whose it is when it was there already.

        Raises:
            DrError: it is refused, which is noted, or it could not be noted.
        """
        try:
            contribution = parse_contribution(data)
            check_contribution(contribution, self._request, now_ms=now_ms)
            earlier = self._taken.get(contribution.statement.x5t_256)
            if earlier is not None and earlier.to_bytes() == contribution.to_bytes():
                return contribution.statement.custodian
            self._require_distinct(contribution)
        except DrError as error:
            self._minutes.refuse("contribution", error, at_ms=now_ms, sha256=sha256_hex(data))
            raise
        self._take(contribution, now_ms)
        return ""

    def drop(self, custodian: str, by: str, reason: str, now_ms: int) -> Statement:
        """Take a contribution out, so that its custodian can contribute anew.

        Parameters:
            custodian: the name, or the x5t#S256.

        Raises:
            CeremonyError: there is none of that custodian, or it could not be noted.
        """
        contribution = self._of(custodian)
        statement = contribution.statement
        body = {
            "custodian": statement.custodian,
            "x5t_256": statement.x5t_256,
            "share_sha256": contribution.attestation.share_sha256,
            "reason": reason,
        }
        self._minutes.note(Draft("dropped", by, body), at_ms=now_ms)
        del self._taken[statement.x5t_256]
        self._dropped[sha256_hex(contribution.to_bytes())] = f"{by}: {reason}"
        with suppress(OSError):
            self._attestation_path(statement.x5t_256).unlink(missing_ok=True)
        return statement

    def _require_distinct(self, contribution: Contribution) -> None:
        if found := find_same(contribution, self._taken.values()):
            earlier, common = found
            command = drop_command(str(self._folder), earlier.statement.x5t_256)
            raise counted_twice(
                earlier,
                common,
                contribution,
                hint="Ask by voice which of the two is true. If it is the later one, take the "
                f"earlier out, and add the later one again: {command}",
            )

    def _take(self, contribution: Contribution, now_ms: int) -> None:
        attestation, statement = contribution.attestation, contribution.statement
        body = {"attestation": attestation.to_json()}
        drafts = [Draft("contributed", statement.custodian, body)]
        if not attestation.is_signed:
            drafts.append(remark(f"the contribution of {statement.custodian} is not signed"))
        if statement.host.split()[-1:] == self._request.combiner_host.split()[-1:]:
            drafts.append(
                remark(f"{statement.custodian} contributed on the combiner's own machine")
            )
        if said := self._dropped.get(sha256_hex(contribution.to_bytes())):
            text = (
                f"the contribution of {statement.custodian} is in again; it was taken out by {said}"
            )
            drafts.append(remark(text))
        self._minutes.note(*drafts, at_ms=now_ms)
        self._taken[statement.x5t_256] = contribution
        try:
            replace_private(self._attestation_path(statement.x5t_256), attestation.to_bytes())
        except DrError as error:  # a copy of what stands in the transcript: it counts all the same
            self._minutes.tell("warning", error.message)

    def _attestation_path(self, x5t_256: str) -> Path:
        name = f"{sha256_hex(x5t_256.encode())[:_MARK]}.json"
        return self._folder / ATTESTATIONS_NAME / name

    def _of(self, wanted: str) -> Contribution:
        if (found := self._taken.get(wanted)) is not None:
            return found
        for contribution in self._taken.values():
            if same_person(contribution.statement.custodian) == same_person(wanted):
                return contribution
        there = [f"{one.statement.custodian} ({x5t})" for x5t, one in self._taken.items()]
        raise CeremonyError(
            "dropping a contribution: none is of the custodian that was named; nothing changed",
            hint=f"Contributed: {', '.join(there) or 'nobody'}.",
        )
