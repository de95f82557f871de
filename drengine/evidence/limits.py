"""What the evidence does not prove, in plain sentences that stand in every report. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from drengine.evidence.proofs import PROVED_CANARIES
from drengine.model.facts import DatabaseFacts, DeliveryFacts, GateFacts, KeyFacts

_BLOB: Final = "restore_blob"
_UNSIGNED: Final = (
    "A chain alone is not signed: whoever can write all of its files can make others that agree"
    " with each other. What protects it is the seal of a bundle, the signatures of approvers up to"
    " the last gate, time stamps, or a head kept where nobody else writes."
)
_OPEN_END: Final = (
    "A chain shows that nothing inside it was changed, added or left out; it cannot show by itself"
    " that records were cut off at its end. The heads listed here must be compared with those"
    " noted elsewhere."
)
_OWN_CLOCK: Final = (
    "Times are those of the machine that ran the engine. Another party confirms them only where"
    " a bundle holds time stamps (`checkpoints/*.tsr`, `attestation*.tsr`), and then only that the"
    " records up to a stamped head were there at the time of the stamp: not when each was made."
    " Whether a stamp counts is said by `drengine verify`, not here."
)


def limits_of(
    *,
    run_class: str,
    is_lab: bool,
    gates: Sequence[GateFacts],
    deliveries: Sequence[DeliveryFacts],
    keys: Sequence[KeyFacts],
    databases: Sequence[DatabaseFacts],
) -> tuple[str, ...]:
    """Return every limit that applies to this run."""
    return (
        *_setting(run_class, is_lab=is_lab),
        *_ceremony(deliveries),
        *_people(gates, deliveries),
        *_proofs(keys, databases),
        _UNSIGNED,
        _OPEN_END,
        _OWN_CLOCK,
    )


def _setting(run_class: str, *, is_lab: bool) -> tuple[str, ...]:
    out = []
    if is_lab:
        out.append(
            "This run took place in a lab: a local simulation of Azure with virtual time. The"
            " cryptography was real, the cloud was not. It shows that runbook, engine and people"
            " know the way; it does not show how long Azure takes or that a real HSM or database"
            " was recovered."
        )
    if run_class == "tabletop":
        out.append("This was a tabletop: people said what they would do; nothing was recovered.")
    elif run_class == "drill":
        out.append(
            "This was a drill: it shows what happened under the conditions of the drill, not what"
            " will happen when they differ."
        )
    return tuple(out)


def _ceremony(deliveries: Sequence[DeliveryFacts]) -> tuple[str, ...]:
    made = {d.ceremony for d in deliveries if d.kind == _BLOB and d.accepted is not None}
    out = []
    if "combine" in made:
        out.append(
            "The restore blob was made on a single machine (`ceremony combine`): the private keys"
            " of a quorum of custodians met in one process there. This evidence does not show"
            " split knowledge or that no copy of those keys was kept."
        )
    if "" in made:
        out.append(
            "The delivery of the restore blob does not say how it was made. This evidence does not"
            " show that the custodians' keys stayed apart."
        )
    return tuple(out)


def _people(gates: Sequence[GateFacts], deliveries: Sequence[DeliveryFacts]) -> tuple[str, ...]:
    decisions = [decision for gate in gates for decision in gate.decisions]
    played = any(d.is_simulated for d in decisions) or any(d.is_simulated for d in deliveries)
    out = []
    if played:
        out.append(
            "People marked “simulated” were played by the drill. Their approvals and deliveries"
            " show the way such messages take, not that a person was asked."
        )
    if any(not (decision.is_simulated or decision.signer) for decision in decisions):
        out.append(
            "Not every approval is signed: that a named person gave such a one rests on the"
            " account under which the command ran."
        )
    return tuple(out)


def _proofs(keys: Sequence[KeyFacts], databases: Sequence[DatabaseFacts]) -> tuple[str, ...]:
    out = []
    unproved = [k for k in keys if k.canary not in PROVED_CANARIES and k.canary != "failed"]
    if unproved:
        out.append(
            f"For {len(unproved)} of {len(keys)} key versions no canary could be opened or signed:"
            " their presence and public key were compared, their private part was not used."
        )
    unread = [d for d in databases if d.canary not in ("equal", "different")]
    if unread:
        out.append(
            f"Of {len(unread)} of {len(databases)} databases no row was read back; Online is what"
            " the service says of them."
        )
    if databases:
        out.append("The consistency of the databases (DBCC CHECKDB) was not tested by this run.")
    return tuple(out)
