"""What a SAS token says of itself: rights, times, resource. Never its signature."""

from __future__ import annotations

from datetime import UTC, datetime
from string import ascii_letters
from typing import Any, Final
from urllib.parse import parse_qsl

from drengine.model.secret import Secret
from drengine.model.times import utc_seconds

BACKUP_RIGHTS = "crdw"
"""What the HSM needs to write a backup (seed 004)."""

LIST_RIGHT = "l"
"""What we need beside it, to see what was written."""

RESTORE_RIGHTS = "rl"
"""What the HSM needs to restore one (seed 004)."""

RIGHTS = BACKUP_RIGHTS + LIST_RIGHT
"""What covers every use: asked of a SAS that is given, and made where less is not documented."""

_RESOURCES: Final = {
    "b": "one blob",
    "bv": "one version of a blob",
    "bs": "one snapshot of a blob",
    "d": "one directory",
    "f": "one file of a file share",
    "s": "a file share",
}
"""By `sr`, beside `c`: what a SAS is for that does not cover a container."""

_LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
_LETTERS = frozenset(ascii_letters)
"""What rights and resources are made of; facts stand in records, where not every text may."""


def sas_facts(sas: Secret) -> dict[str, Any]:
    """Return rights, validity (epoch milliseconds), resource and protocol of a SAS.

    Fields that are absent or cannot be read are empty or None: a rule judges them. A SAS of an
    account names services and kinds of resources, one of a service the one resource that it is for.
    """
    fields = dict(parse_qsl(sas.reveal().removeprefix("?")))
    return {
        "rights": "".join(sorted(set(fields.get("sp", "")) & _LETTERS)),
        "starts_ms": _time_ms(fields.get("st", "")),
        "expires_ms": _time_ms(fields.get("se", "")),
        "resource": _letters(fields.get("sr", "") or fields.get("srt", "")),
        "account": not {"ss", "srt"}.isdisjoint(fields) and not fields.get("sr"),
        "services": _letters(fields.get("ss", "")),
        "signed": bool(fields.get("sig")),
    }


def _letters(text: str) -> str:
    return "".join(letter for letter in text if letter in _LETTERS)


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
    if wrong := _resource_problem(facts):
        problems.append(wrong)
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


def _resource_problem(facts: dict[str, Any]) -> str:
    """Return why a SAS does not cover a container and what is in it, empty where it does.

    Source: REST "Create a service SAS" (sr) and "Create an account SAS" (ss, srt): listing is of
    the container, reading and writing of its blobs.
    """
    resource = facts["resource"]
    if facts["account"]:
        if "b" not in facts["services"]:
            shown = facts["services"] or "nothing"
            return f"it is of an account, for the services {shown}, and not for blobs (ss=b)"
        if missing := [letter for letter in "co" if letter not in resource]:
            lacks = " and ".join({"c": "containers", "o": "objects"}[one] for one in missing)
            return f"it is of an account, for srt={resource or 'nothing'}, and lacks {lacks}"
        return ""
    if resource == "c":
        return ""
    if not resource:
        return "it does not say what it is for (no sr): a SAS of the container has sr=c"
    shown = _RESOURCES.get(resource, "something else")
    return f"it is for {shown} (sr={resource[:8]}), and not for the container (sr=c)"
