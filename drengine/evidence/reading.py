"""Reading record bodies: every value is taken for what it must be, or for nothing.

Pure. A body that was edited must lead to a finding of the verification, not to a
traceback; so each function returns a value of its type whatever it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from drengine.model.canonical import JsonObject
from drengine.model.facts import FindingFacts, Moment, RequestFacts
from drengine.model.records import Record

_ERRORS: Final = 400
_NOT_THERE: Final = 404


def text(value: object) -> str:
    """Return `value` as text; nothing is an empty text."""
    return "" if value is None else str(value)


def count(value: object) -> int:
    """Return `value` where it is a whole number, else 0."""
    return value if type(value) is int else 0


def flag(value: object) -> bool | None:
    """Return `value` where it is true or false, else None."""
    return value if isinstance(value, bool) else None


def mapping(value: object) -> JsonObject:
    """Return `value` where it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def objects(value: object) -> list[Mapping[str, Any]]:
    """Return the objects in a list, nothing where it is none."""
    if not isinstance(value, (list, tuple)):
        return []
    return [item for item in value if type(item) is dict or isinstance(item, Mapping)]


def texts(value: object) -> tuple[str, ...]:
    """Return the items of a list as texts."""
    return tuple(text(item) for item in value) if isinstance(value, (list, tuple)) else ()


def moment(record: Record) -> Moment:
    """Return when the record was made."""
    return Moment(record.at_ms, record.at_ms if record.wall_ms is None else record.wall_ms)


def is_simulated(actor: str) -> bool:
    """Whether a drill played the person."""
    return actor.startswith("simulated:")


def person(actor: str) -> str:
    """Return the name in `simulated:approver:alice`."""
    return actor.rsplit(":", 1)[-1]


def findings(body: JsonObject, stage: str) -> tuple[FindingFacts, ...]:
    """Return the findings in a record's body."""
    return tuple(
        FindingFacts(
            stage=stage,
            rule=text(doc.get("rule")),
            severity=text(doc.get("severity")),
            message=text(doc.get("message")),
            advice=text(doc.get("advice")),
        )
        for doc in objects(body.get("findings"))
    )


def requests(record: Record) -> tuple[list[RequestFacts], int]:
    """Return the requests of a record worth naming, and how many others there were."""
    found = objects(record.body.get("exchanges"))
    named = [_request(record.seq, doc) for doc in found if _is_worth_naming(doc)]
    return named, len(found) - len(named)


def _is_worth_naming(doc: Mapping[str, Any]) -> bool:
    # "Not there" is what a look before the send hopes for.
    status = count(doc.get("status"))
    went_wrong = status == 0 or (status >= _ERRORS and status != _NOT_THERE)
    return went_wrong or doc.get("sent") is True


def _request(seq: int, doc: Mapping[str, Any]) -> RequestFacts:
    return RequestFacts(
        seq=seq,
        method=text(doc.get("method")),
        host=text(doc.get("host")),
        path=text(doc.get("path")),
        status=count(doc.get("status")),
        request_id=text(doc.get("request_id")),
        client_request_id=text(doc.get("client_request_id")),
        ms=count(doc.get("ms")),
        sent=doc.get("sent") is True,
    )


def error_text(value: object) -> str:
    """Return code and message of an error in a record's body."""
    doc = mapping(value)
    return f"{text(doc.get('code'))} {text(doc.get('message'))}".strip()
