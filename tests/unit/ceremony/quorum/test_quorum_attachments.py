"""Attestations and transcripts on a run: who counts, for which key, in which class."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from drengine.actions.attachments import check_attestation, check_transcript
from drengine.ceremony.contribution import Attestation, HolderFacts, Statement
from drengine.ceremony.made import Made, entries_of
from drengine.ceremony.proving import prove
from drengine.ceremony.request import CeremonyRequest, Invited
from drengine.ceremony.signing import public_bytes, sign_statement
from drengine.ceremony.transcript import Transcript
from drengine.engine.fold import apply
from drengine.errors import VerificationError
from drengine.model.findings import all_hold
from drengine.model.ids import RunId
from drengine.model.records import Head, Record, RecordType
from drengine.model.run import RunState, RunStatus, StepState, StepStatus
from drengine.model.runbook import RunClass

X5T = [f"{letter}" * 42 + "A" for letter in "abc"]
EXCHANGE = "e" * 42 + "A"
SIGNS = Ed25519PrivateKey.generate()
KEYS = [Ed25519PrivateKey.generate() for _ in X5T]
EXPECTS = {"exchange": EXCHANGE, "domain": "0" * 64, "target": "t"}


def request_of(**changed):
    made = CeremonyRequest(
        ceremony="c-1",
        run_class="drill",
        purpose="drill 7",
        run="",
        step="",
        target="t",
        exchange_x5t_256=EXCHANGE,
        exchange_subject="CN=t",
        domain_sha256="0" * 64,
        required=2,
        custodians=tuple(
            Invited(x5t, f"Custodian {at}", public_bytes(KEYS[at])) for at, x5t in enumerate(X5T)
        ),
        combiner="Olga",
        combiner_host="host 1",
        combiner_key=b"k" * 422,
        combiner_signs=public_bytes(SIGNS),
        witnesses=(),
        opened_ms=1000,
        expires_ms=9000,
        tool_version="1",
        tool_sha256="0" * 64,
    )
    return dataclasses.replace(made, **changed)


def attestation_of(at, request=None, *, signed=True, **changed):
    request = request or request_of()
    statement = Statement(
        ceremony=request.ceremony,
        run_class=request.run_class,
        request=request.digest,
        exchange_x5t_256=request.exchange_x5t_256,
        required=2,
        custodian=f"Custodian {at}",
        x5t_256=X5T[at],
        holder=HolderFacts("pem", encrypted=True),
        host="host 2",
        key=public_bytes(KEYS[at]) if signed else b"",
        at_ms=2000,
        tool_version="1",
        tool_sha256="0" * 64,
    )
    statement = dataclasses.replace(statement, **changed)
    share = f"{at:064x}"
    signature = sign_statement(KEYS[at], statement, share) if signed else b""
    return Attestation(statement, share, signature)


def made_of(request, head, members=(0, 1), **changed):
    made = Made(
        request=request.digest,
        head=head,
        at_ms=3000,
        blob_sha256="b" * 64,
        blob_size=9,
        exchange_subject="CN=t",
        custodians=tuple(X5T[at] for at in members),
        misfits=(),
        twins=(),
        plain_ms=9,
        memory_locked=True,
        swap_active=False,
        pid=7,
    )
    return dataclasses.replace(made, **changed)


def transcript_of(request=None, members=(0, 1), **changed):
    """A transcript; `changed` is what the keeper of the one-time key signs otherwise."""
    request = request or request_of()
    made = Transcript()
    opened = {"request": request.to_json(), "digest": request.digest}
    made.append("opened", "Olga", opened, 1000)
    for at in members:
        body = {"attestation": attestation_of(at, request).to_json()}
        made.append("contributed", f"Custodian {at}", body, 2000 + at)
    facts = made_of(request, made.head, members, **changed)
    for draft in entries_of(facts, SIGNS.sign(facts.signed_bytes()), request):
        made.append(*draft, 3000)
    made.append("closed", "Olga", {"why": "combined", "reason": "made"}, 3001)
    return made


def state_of():
    steps = {"blob": StepState("blob", status=StepStatus.AWAITING_DELIVERY)}
    return RunState(
        run=RunId("r-1"),
        run_class=RunClass.DRILL,
        genesis={},
        head=Head(0, "0" * 64),
        status=RunStatus.WAITING,
        steps=steps,
        created_ms=0,
        last_ms=0,
    )


def noted(state, attached, facts):
    body = {"step": "blob", "attached": attached, "facts": facts, "signal": f"s{state.head.seq}"}
    seq = state.head.seq + 1
    args = (RecordType.NOTE, "operator:o", body, 0, 0, None, state.head.sha256, f"{seq:064x}")
    return apply(state, Record(seq, RunId("r-1"), *args))


def test_attestations_count_up_and_a_repeat_does_not():
    state = state_of()
    for at, shown in ((0, "1 of 2"), (0, "1 of 2"), (1, "2 of 2")):
        found = check_attestation(attestation_of(at).to_bytes(), EXPECTS, RunClass.DRILL)
        assert all_hold(found.findings)
        state = noted(state, "ceremony_attestation", found.facts)
        assert state.steps["blob"].progress == f"{shown} contributed"
    assert state.steps["blob"].status is StepStatus.AWAITING_DELIVERY
    assert state.status is RunStatus.WAITING


def test_a_new_ceremony_counts_anew():
    state = state_of()
    for request in (request_of(), request_of(ceremony="c-2")):
        data = attestation_of(0, request).to_bytes()
        facts = check_attestation(data, EXPECTS, RunClass.DRILL).facts
        state = noted(state, "ceremony_attestation", facts)
    assert state.steps["blob"].progress == "1 of 2 contributed"


@pytest.mark.parametrize(
    ("attestation", "expects", "run_class", "words"),
    [
        (attestation_of(0), EXPECTS, RunClass.INCIDENT, "of class drill"),
        (attestation_of(0), {"exchange": "f" * 42 + "A"}, RunClass.DRILL, "for exchange key"),
        (attestation_of(0, signed=False), EXPECTS, RunClass.DRILL, "is not signed"),
        (
            dataclasses.replace(attestation_of(0), share_sha256="f" * 64),
            EXPECTS,
            RunClass.DRILL,
            "signature does not verify",
        ),
    ],
)
def test_what_does_not_belong_to_the_run_does_not_count(attestation, expects, run_class, words):
    found = check_attestation(attestation.to_bytes(), expects, run_class)
    assert not all_hold(found.findings)
    assert words in found.findings[0].message


def test_a_transcript_says_how_its_blob_was_made():
    found = check_transcript(transcript_of().to_bytes(), EXPECTS, RunClass.DRILL)
    assert all_hold(found.findings)
    state = noted(state_of(), "ceremony_transcript", found.facts)
    (made,) = state.steps["blob"].transcripts.values()
    assert (list(state.steps["blob"].transcripts), made["form"]) == (["b" * 64], "contribute")
    wrong = check_transcript(transcript_of().to_bytes(), EXPECTS, RunClass.INCIDENT)
    assert not all_hold(wrong.findings)


@pytest.mark.parametrize(
    ("expects", "words"),
    [
        ({"exchange": "f" * 42 + "A"}, "for exchange key"),
        ({"domain": "1" * 64}, "for security domain 0000"),
        ({"target": "other"}, "for target t, the run waits for other"),
    ],
)
def test_a_ceremony_for_something_else_serves_no_run(expects, words):
    """Two HSMs with the same custodians, and one mix-up: the wrong domain for ever."""
    wrong = check_transcript(transcript_of().to_bytes(), {**EXPECTS, **expects}, RunClass.DRILL)
    assert words in wrong.findings[0].message
    assert not all_hold(wrong.findings)


def test_a_runbook_need_not_name_domain_and_target():
    found = check_transcript(transcript_of().to_bytes(), {"exchange": EXCHANGE}, RunClass.DRILL)
    assert all_hold(found.findings)


def test_a_ceremony_that_made_no_blob_is_told_so():
    ended = Transcript()
    for entry in transcript_of().entries[:2]:
        ended.append(entry.kind, entry.actor, entry.body, entry.at_ms)
    ended.append("closed", "Olga", {"why": "cancelled", "reason": "wrong room"}, 3001)
    found = check_transcript(ended.to_bytes(), EXPECTS, RunClass.DRILL)
    assert "no blob was made in this ceremony: it is cancelled" in [
        finding.message for finding in found.findings
    ]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            transcript_of(custodians=(X5T[0],), misfits=((X5T[1], "w"),)),
            "1 custodians gave a share; 2 are needed",
        ),
        (transcript_of(custodians=(X5T[0],)), "it is not said, or said twice, whether its share"),
        (transcript_of(misfits=((X5T[1], "w"),)), "not said, or said twice, whether its share"),
        (transcript_of(custodians=(X5T[0], X5T[0])), "nobody is recorded to have given"),
        (transcript_of(custodians=(X5T[0], X5T[2])), "nobody is recorded to have given"),
        (transcript_of(misfits=((X5T[2], "w"),)), "nobody is recorded to have given"),
        (transcript_of(members=(0, 0)), "counts Custodian 0 twice"),
        (transcript_of(plain_ms="many"), "'made.plain_ms' is not an integer"),
        (transcript_of(request_of(expires_ms=2500)), "after the request had expired"),
        (
            transcript_of(request_of(combiner_signs=b"s" * 32)),
            "the ceremony's one-time key did not sign this blob",
        ),
    ],
)
def test_a_transcript_of_a_ceremony_that_broke_a_rule_does_not_hold(made, words):
    with pytest.raises(VerificationError, match=words):
        prove(made.to_bytes())


def test_an_attestation_by_a_key_that_is_not_enrolled_does_not_hold():
    request = request_of()
    made = transcript_of(request)
    stranger = Ed25519PrivateKey.generate()
    false = attestation_of(0, request, key=public_bytes(stranger))
    signature = sign_statement(stranger, false.statement, false.share_sha256)
    body = {"attestation": dataclasses.replace(false, signature=signature).to_json()}
    forged = Transcript()
    for entry in made.entries:
        shown = body if entry.seq == 1 else entry.body
        forged.append(entry.kind, entry.actor, shown, entry.at_ms)
    with pytest.raises(VerificationError, match="signed by another key"):
        prove(forged.to_bytes())
