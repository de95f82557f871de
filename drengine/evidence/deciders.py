"""Who decided, by the register that the run was started with. Pure.

The rule is the engine's own (`Approver.is_initiator`): whoever stands in the register with
the account that began the run began it, whatever name the decision was given under. Record 0
names the register's digest; another register is not looked at. Without one only names can be
compared, and that two names differ shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from drengine.evidence.reading import count, objects, person, text, texts
from drengine.model.canonical import JsonObject, digest
from drengine.model.records import Record
from drengine.trust.people import Approver


class Deciders:
    """Tells who decided in one chain."""

    def __init__(self, genesis: JsonObject, register: JsonObject | None) -> None:
        self._initiator = text(genesis.get("initiator"))
        named = text(genesis.get("approvers"))
        is_named = register is not None and named and digest(register) == named
        people = objects(register.get("people")) if is_named and register is not None else []
        self._owners = {
            text(key.get("keyid")): _approver(row)
            for row in people
            for key in objects(row.get("keys"))
        }

    def began(self, record: Record) -> bool | None:
        """Whether whoever decided began the run; None where nothing can tell."""
        if person(record.actor) == person(self._initiator):
            return True
        who = self._owners.get(text(record.body.get("signer")))
        return None if who is None else who.is_initiator(self._initiator)

    def set_aside(self, record: Record, request: JsonObject) -> str:
        """Return which rules a break-glass set aside, as a part of a sentence; or nothing."""
        return "; ".join(self._set_aside(record, request))

    def _set_aside(self, record: Record, request: JsonObject) -> Iterator[str]:
        required, roles = count(request.get("approvals")), texts(request.get("roles"))
        if required > 1:
            yield f"{required} people were asked for"
        who = self._owners.get(text(record.body.get("signer")))
        if roles and who is not None and not {*roles} & {*who.roles}:
            yield f"not {' or '.join(roles)}, as the gate asks"
        if self.began(record):
            yield "began the run"


def _approver(row: JsonObject) -> Approver:
    return Approver(
        name=text(row.get("name")),
        roles=texts(row.get("roles")),
        keys=(),
        accounts=texts(row.get("accounts")),
    )
