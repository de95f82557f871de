"""Prove a transcript: chain, roles, quorum, signatures, and the blob it speaks of.

Needs no key and no share: anybody can do it, years later.

Not here: that what people did in the room is what the transcript says. Signatures show
who stated it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from drengine.ceremony.blob import inspect_restore_blob
from drengine.ceremony.checking import check_attestation
from drengine.ceremony.contribution import Attestation, parse_attestation
from drengine.ceremony.made import Made, entries_of, read_made
from drengine.ceremony.messages import decode_bytes
from drengine.ceremony.register import contested
from drengine.ceremony.request import CeremonyRequest, parse_request, same_person
from drengine.ceremony.signing import is_signed_by
from drengine.ceremony.transcript import Entry, Transcript, read_transcript
from drengine.errors import DrError, VerificationError
from drengine.model.canonical import canonical, sha256_hex
from drengine.model.times import utc_seconds

if TYPE_CHECKING:
    from drengine.ceremony.register import Register

_FIRST: Final = ("opened", "combined_on_one_machine")
_LATER: Final = " (added after the blob was made, and signed by nobody)"
_HINT: Final = "Compare the transcript with the paper script and with the combiner's copy."


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proven transcript says.

    Attributes:
        form: `contribute`, or `combine` where all keys met on one machine.
        outcome: `combined`, `cancelled`, `expired`, `interrupted` or `open`.
        signed, unsigned: names of those whose attestation carries a good signature, or none.
        remarks: deviations, in the words of those who noted them.
        refused: what was refused, with its code and words.
        dropped: whose contribution was taken out again, by whom and why.
    """

    form: str
    run_class: str
    outcome: str
    head: str
    request: CeremonyRequest | None
    attestations: tuple[Attestation, ...]
    signed: tuple[str, ...]
    unsigned: tuple[str, ...]
    remarks: tuple[str, ...]
    refused: tuple[str, ...]
    dropped: tuple[str, ...]
    blob_sha256: str
    domain_sha256: str
    exchange_x5t_256: str
    required: int
    plain_ms: int

    def to_json(self) -> dict[str, Any]:
        """Return the facts as the JSON object that `verify` prints."""
        return {
            "form": self.form,
            "class": self.run_class,
            "outcome": self.outcome,
            "head": self.head,
            "ceremony": self.request.ceremony if self.request else "",
            "request_code": self.request.code if self.request else "",
            "target": self.request.target if self.request else "",
            "domain_sha256": self.domain_sha256,
            "exchange_x5t_256": self.exchange_x5t_256,
            "required": self.required,
            "contributed": [one.statement.x5t_256 for one in self.attestations],
            "signed": list(self.signed),
            "unsigned": list(self.unsigned),
            "not_enrolled": list(self.request.unenrolled) if self.request else [],
            "deviations": list(self.remarks),
            "refused": list(self.refused),
            "dropped": list(self.dropped),
            "blob_sha256": self.blob_sha256,
            "plain_ms": self.plain_ms,
        }


def prove(data: bytes, *, blob: bytes | None = None, register: Register | None = None) -> Proven:
    """Prove a transcript and return what it says.

    Parameters:
        blob: the restore blob, to be the one that the transcript names.
        register: its entries, as they counted at the time, must be those that signed.

    Raises:
        VerificationError: names the entry and what does not hold.
    """
    transcript = read_transcript(data)
    try:
        proven = _prove(transcript)
        if blob is not None:
            _check_blob(proven, blob)
        if register is not None:
            _check_register(proven, register)
    except VerificationError:
        raise
    except DrError as error:
        raise _wrong(error.message) from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _wrong("an entry lacks what its kind must have") from None
    return proven


def _wrong(what: str) -> VerificationError:
    return VerificationError(f"proving the ceremony transcript: {what}", hint=_HINT)


def _prove(transcript: Transcript) -> Proven:
    entries = transcript.entries
    if entries[0].kind == "combined_on_one_machine":
        return _one_machine(transcript)
    if entries[0].kind != "opened":
        raise _wrong("its first entry does not open a ceremony")
    request = parse_request(canonical(entries[0].body["request"]))
    if entries[0].body["digest"] != request.digest:
        raise _wrong("the request is not the one whose digest entry 0 names")
    attestations = _attestations(entries, request)
    combined = [entry for entry in entries if entry.kind == "combined"]
    outcome = _outcome(entries, combined)
    made = _check_made(entries, combined[0], request) if combined else None
    if made is not None:
        _check_shares(made, request, attestations)
    return Proven(
        form="contribute",
        run_class=request.run_class,
        outcome=outcome,
        head=transcript.head,
        request=request,
        attestations=tuple(attestations),
        signed=tuple(a.statement.custodian for a in attestations if a.is_signed),
        unsigned=tuple(a.statement.custodian for a in attestations if not a.is_signed),
        remarks=_remarks(entries),
        refused=_refused(entries),
        dropped=_dropped(entries),
        blob_sha256="" if made is None else made.blob_sha256,
        domain_sha256=request.domain_sha256,
        exchange_x5t_256=request.exchange_x5t_256,
        required=request.required,
        plain_ms=0 if made is None else made.plain_ms,
    )


def _one_machine(transcript: Transcript) -> Proven:
    first = transcript.entries[0]
    if any(entry.kind != "deviation" for entry in transcript.entries[1:]):
        raise _wrong("it mixes a combination on one machine with a ceremony")
    body = first.body
    return Proven(
        form="combine",
        run_class=str(body["class"]),
        outcome="combined",
        head=transcript.head,
        request=None,
        attestations=(),
        signed=(),
        unsigned=(),
        remarks=_remarks(transcript.entries),
        refused=(),
        dropped=(),
        blob_sha256=str(body["blob_sha256"]),
        domain_sha256=str(body["domain_sha256"]),
        exchange_x5t_256=str(body["exchange_x5t_256"]),
        required=int(body["required"]),
        plain_ms=int(body["plain_ms"]),
    )


def _attestations(entries: Sequence[Entry], request: CeremonyRequest) -> list[Attestation]:
    found: list[Attestation] = []
    for entry in entries:
        if entry.kind == "dropped":
            found.remove(_taken_out(entry, found))
        if entry.kind != "contributed":
            continue
        attestation = parse_attestation(canonical(entry.body["attestation"]))
        check_attestation(attestation, request)
        statement = attestation.statement
        for earlier in found:
            if earlier.statement.x5t_256 == statement.x5t_256 or same_person(
                earlier.statement.custodian
            ) == same_person(statement.custodian):
                raise _wrong(f"entry {entry.seq} counts {statement.custodian} twice")
        if entry.at_ms >= request.expires_ms:
            raise _wrong(f"entry {entry.seq} is a contribution after the request expired")
        found.append(attestation)
    return found


def _taken_out(entry: Entry, found: Sequence[Attestation]) -> Attestation:
    """Return the attestation whose contribution an entry says was dropped."""
    named = (entry.body["x5t_256"], entry.body["share_sha256"])
    for attestation in found:
        if (attestation.statement.x5t_256, attestation.share_sha256) == named:
            return attestation
    raise _wrong(f"entry {entry.seq} drops a contribution that is not there")


def _outcome(entries: Sequence[Entry], combined: Sequence[Entry]) -> str:
    closed = [entry for entry in entries if entry.kind == "closed"]
    if len(combined) > 1 or len(closed) > 1:
        raise _wrong("it combines or closes more than once")
    if any(entry.kind in _FIRST for entry in entries[1:]):
        raise _wrong("it opens a ceremony in the middle of another")
    if closed:
        _require_only(entries[closed[0].seq + 1 :], ("deviation",), "the ceremony was closed")
    if combined:
        after = entries[combined[0].seq + 1 :]
        _require_only(after, ("closed", "deviation"), "the blob was made")
        return "combined"
    return str(closed[0].body["why"]) if closed else "open"


def _require_only(after: Sequence[Entry], kinds: Sequence[str], what: str) -> None:
    for entry in after:
        if entry.kind not in kinds:
            raise _wrong(f"entry {entry.seq} ({entry.kind}) comes after {what}")


def _check_made(entries: Sequence[Entry], combined: Entry, request: CeremonyRequest) -> Made:
    """Return what the key that the request names, gone since, signed of the blob.

    All from the head that it signed to `combined` has to follow from that, word for word.
    """
    made = read_made(combined.body["made"])
    signature = decode_bytes(combined.body["signature"])
    if made.request != request.digest or not is_signed_by(
        request.combiner_signs, signature, made.signed_bytes()
    ):
        raise _wrong(
            "the ceremony's one-time key did not sign this blob: blob or transcript were "
            "exchanged, or what is said of the blob was changed"
        )
    began = next((entry for entry in entries if entry.sha256 == made.head), None)
    if began is None or began.seq >= combined.seq:
        raise _wrong("the blob was signed after other entries than stand before it")
    at_ms = max(made.at_ms, began.at_ms)
    expected = [
        (draft.kind, draft.actor, canonical(draft.body), at_ms)
        for draft in entries_of(made, signature, request)
    ]
    found = [
        (entry.kind, entry.actor, canonical(entry.body), entry.at_ms)
        for entry in entries[began.seq + 1 : combined.seq + 1]
    ]
    if found != expected:
        raise _wrong(
            f"the entries {began.seq + 1} to {combined.seq} are not those that follow from what "
            "the ceremony's one-time key signed: something was added, left out or changed"
        )
    return made


def _check_shares(
    made: Made, request: CeremonyRequest, attestations: Sequence[Attestation]
) -> None:
    """Every custodian who is recorded gave a share that fitted, or one that did not."""
    known = {one.statement.x5t_256 for one in attestations}
    used, left_out = list(made.custodians), [x5t_256 for x5t_256, _ in made.misfits]
    if len(set(used)) != len(used) or not {*used, *left_out} <= known:
        raise _wrong("the blob was combined from shares that nobody is recorded to have given")
    if len(used) + len(left_out) != len(known) or set(used) & set(left_out):
        raise _wrong(
            "of a recorded contribution it is not said, or said twice, whether its share fitted"
        )
    if len(used) < request.required:
        raise _wrong(f"{len(used)} custodians gave a share; {request.required} are needed")
    if made.at_ms >= request.expires_ms:
        raise _wrong("the blob was combined after the request had expired")


def _check_blob(proven: Proven, blob: bytes) -> None:
    looked = inspect_restore_blob(blob)
    if sha256_hex(blob) != proven.blob_sha256:
        raise _wrong(
            f"the blob has SHA-256 {sha256_hex(blob)}, the transcript names "
            f"{proven.blob_sha256 or 'none'}"
        )
    if looked.exchange_x5t_256 != proven.exchange_x5t_256:
        raise _wrong("the blob was made for another exchange certificate")


def _check_register(proven: Proven, register: Register) -> None:
    """Hold each signer against the entry that counted when the statement was made.

    Who was not enrolled when the ceremony was opened is shown as such, and held against nothing.
    """
    request = proven.request
    if request is not None and not any(
        register.line(one.x5t_256, request.expires_ms).held for one in request.custodians
    ):
        raise _wrong("none of its custodians was in the register then: it is another domain's")
    for attestation in proven.attestations:
        statement = attestation.statement
        if request is not None and _was_unknown(statement.x5t_256, request, register):
            continue
        who = f"{statement.custodian} ({statement.x5t_256})"
        at_ms = _within(proven.request, statement.at_ms)
        line = register.line(statement.x5t_256, at_ms)
        if not line.held:
            raise _wrong(f"{who} was not in the register at {utc_seconds(at_ms)}")
        if line.against:
            raise _wrong(contested(statement.x5t_256, line))
        if statement.key not in line.keys_at(at_ms):
            raise _wrong(
                f"{who} signed with a key that is not the one enrolled at {utc_seconds(at_ms)}"
            )


def _was_unknown(x5t_256: str, request: CeremonyRequest, register: Register) -> bool:
    """Tell whether a custodian was invited without a key, and rightly so: none was enrolled."""
    invited = request.invited(x5t_256)
    entries = register.line(x5t_256, request.opened_ms).held
    return (
        invited is not None
        and not invited.key
        and not any(one.at_ms <= request.opened_ms for one in entries)
    )


def _within(request: CeremonyRequest | None, at_ms: int) -> int:
    """Return a custodian's time, no earlier and no later than the combiner's ceremony."""
    if request is None:
        return at_ms
    return min(max(at_ms, request.opened_ms), request.expires_ms)


def _remarks(entries: Sequence[Entry]) -> tuple[str, ...]:
    made = next((entry.seq for entry in entries if entry.kind == "combined"), len(entries))
    return tuple(
        f"{entry.actor}: {entry.body['text']}{_LATER if entry.seq > made else ''}"
        for entry in entries
        if entry.kind == "deviation"
    )


def _dropped(entries: Sequence[Entry]) -> tuple[str, ...]:
    return tuple(
        f"{entry.body['custodian']} ({entry.body['x5t_256']}) by {entry.actor}: "
        f"{entry.body['reason']}"
        for entry in entries
        if entry.kind == "dropped"
    )


def _refused(entries: Sequence[Entry]) -> tuple[str, ...]:
    return tuple(
        f"{entry.body['what']}: {entry.body['message']} ({entry.body['code']})"
        for entry in entries
        if entry.kind == "refused"
    )
