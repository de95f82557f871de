"""What a SAS token says of itself: rights, times, resource. Never its signature."""

from __future__ import annotations

from datetime import UTC, datetime
from string import ascii_letters
from typing import Any
from urllib.parse import parse_qsl

from drengine.model.secret import Secret
from drengine.model.times import utc_seconds

BACKUP_RIGHTS = "crdw"
"""What the HSM needs to write a backup (seed 004)."""

LIST_RIGHT = "l"
"""What we need beside it, to see what was written."""

RIGHTS = BACKUP_RIGHTS + LIST_RIGHT

_LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
_LETTERS = frozenset(ascii_letters)
"""What rights and resources are made of; facts stand in records, where not every text may."""


def sas_facts(sas: Secret) -> dict[str, Any]:
    """Return rights, validity (epoch milliseconds), resource and protocol of a SAS.

    Fields that are absent or cannot be read are empty or None: a rule judges them.
    """
    fields = dict(parse_qsl(sas.reveal().removeprefix("?")))
    return {
        "rights": "".join(sorted(set(fields.get("sp", "")) & _LETTERS)),
        "starts_ms": _time_ms(fields.get("st", "")),
        "expires_ms": _time_ms(fields.get("se", "")),
        "resource": "".join(
            letter for letter in fields.get("sr", "") or fields.get("srt", "") if letter in _LETTERS
        ),
        "signed": bool(fields.get("sig")),
    }


def _time_ms(text: str) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    found = int(moment.timestamp() * 1000)
    # With a zone, a text may name an hour before year 1 or after 9999, which has no UTC text.
    return found if 0 <= found <= _LAST_MS else None


def sas_problems(facts: dict[str, Any], rights: str, now_ms: int, lasts_ms: int) -> list[str]:
    """Return what is wrong with a SAS for a use of so many milliseconds from now.

    Parameters:
        rights: letters that are needed, in any order.
    """
    problems = []
    if not facts["signed"]:
        problems.append("it has no signature: is it a SAS token?")
    if missing := [letter for letter in rights if letter not in facts["rights"]]:
        problems.append(f"it grants {facts['rights'] or 'nothing'}, and lacks {''.join(missing)}")
    starts, expires = facts["starts_ms"], facts["expires_ms"]
    if starts is not None and starts > now_ms:
        problems.append(f"it is not valid before {utc_seconds(starts)}")
    if expires is None:
        problems.append("its expiry cannot be read")
    elif expires <= now_ms:
        problems.append(f"it expired at {utc_seconds(expires)}")
    elif expires < now_ms + lasts_ms:
        problems.append(f"it expires at {utc_seconds(expires)}, before the recovery can have ended")
    return problems
