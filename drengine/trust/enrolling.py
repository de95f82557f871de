"""Making and extending a trust folder."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from shlex import quote
from typing import Any, Final

from drengine.errors import InputError, InputFileError
from drengine.model.times import instant_ms, utc_text
from drengine.trust.authorities import Root, read_roots
from drengine.trust.dsse import parse_json
from drengine.trust.files import read_bounded
from drengine.trust.register import (
    NAME,
    SCHEMA,
    SEALER_FILE,
    TRUST_FILE,
    TSA_FILE,
    key_id,
    read_member,
    read_trust,
)

_SHORTEST: Final = 8
_TRIES: Final = 500
_PAUSE_SECONDS: Final = 0.02
_SUFFIX: Final = {"p256": "pem", "ssh": "pub", "cms": "crt"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One key and whose it is.

    Attributes:
        dropped: roles that the person is to hold no more.
    """

    name: str
    kind: str
    public: str
    roles: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    simulated: bool = False
    sealer: bool = False
    revoked: str = ""
    dropped: tuple[str, ...] = ()


def enrol(folder: Path, *entries: Entry) -> None:
    """Enter keys into a trust folder; a person who is there already gets another key.

    A key that is the person's already, or seals already, is not entered twice: roles, accounts
    and the time of a revocation are added to what stands there.

    Raises:
        InputError: a name or time cannot be used, or a role to take away is not held.
        InputFileError: the folder cannot be read or written, or the key is another person's;
            the list is as it was.
    """
    with _alone(folder):
        _enrol(folder, entries)


def _enrol(folder: Path, entries: Sequence[Entry]) -> None:
    place = folder / TRUST_FILE
    doc = _empty()
    before = ""
    if place.exists():
        read_trust(folder)
        before = read_bounded(place, "the trust folder's list").decode()
        doc = parse_json(before.encode())
    for entry in entries:
        if not NAME.fullmatch(entry.name):
            raise InputError(f"{entry.name[:60]!r} is not a name of letters, digits, . _ @ and -")
        if entry.sealer and entry.dropped:
            raise InputError("a key that seals has no roles; none can be taken away with it")
        if both := sorted({*entry.roles} & {*entry.dropped}):
            raise InputError(f"{', '.join(both)} cannot be given and taken away at once")
        _enter(folder, doc, entry)
    _write(place, f"{json.dumps(doc, indent=2, sort_keys=True)}\n")
    try:
        read_trust(folder)
    except InputFileError:
        # A list that nobody can read would lock everybody out of the next command.
        _write(place, before) if before else place.unlink()
        raise


def add_tsa(folder: Path, pem: str) -> tuple[Root, ...]:
    """Enter the roots of a time-stamp authority beside those that are there; return the new ones.

    Raises:
        InputError: the text holds no root.
        InputFileError: the folder cannot be read or written.
    """
    given = read_roots(pem)
    with _alone(folder):
        place, doc = folder / TRUST_FILE, _empty()
        if place.exists():
            read_trust(folder)
            doc = parse_json(read_bounded(place, "the trust folder's list"))
        file = str(doc.get("tsa", TSA_FILE))
        known = read_member(folder, file).decode("ascii") if "tsa" in doc else ""
        there = {root.sha256 for root in read_roots(known)} if known else set()
        fresh = tuple(root for root in given if root.sha256 not in there)
        _write(folder / file, known + "".join(root.pem for root in fresh))
        doc["tsa"] = file
        _write(place, f"{json.dumps(doc, indent=2, sort_keys=True)}\n")
    return fresh


def _empty() -> dict[str, Any]:
    return {"schema": SCHEMA, "people": [], "sealers": []}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from changing the folder: what both read, one of them would lose.

    A folder that is made for it and stays empty is removed again.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InputFileError(f"opening {folder}: {error.strerror}") from None
    try:
        _lock(folder, descriptor)
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise
    finally:
        os.close(descriptor)


def _lock(folder: Path, descriptor: int) -> None:
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_PAUSE_SECONDS)
    raise InputFileError(
        f"{folder}: another process is changing it and does not end; nothing was changed"
    )


def _enter(folder: Path, doc: dict[str, Any], entry: Entry) -> None:
    key: dict[str, Any] = {"kind": entry.kind}
    if entry.revoked:
        if (since_ms := instant_ms(entry.revoked)) is None:
            raise InputError(f"{entry.revoked[:40]!r} is not a UTC time like 2026-11-22T10:00:00Z")
        key["revoked"] = utc_text(since_ms)
    if entry.sealer:
        listed = doc.setdefault("sealers", [])
        if standing := _standing(folder, listed, entry):
            standing.update(_revocation(key))
            return
        # The first sealer has the name that the commands in every README use.
        key["file"] = _free_file(listed, entry, "sealers") if listed else SEALER_FILE
        listed.append(key)
    else:
        person = _person(doc, entry)
        if standing := _standing(folder, person["keys"], entry):
            standing.update(_revocation(key))
            return
        for other in doc["people"]:
            if other is not person and _standing(folder, other["keys"], entry):
                raise InputFileError(
                    f"{entry.name}: this very key is {other['name']}'s already, and would count one"
                    " person twice; nothing was changed",
                    hint="Every person has a key of their own: drengine key init. Where it was"
                    f" entered under the wrong name: drengine key trust {quote(str(folder))}"
                    f" {other['name']} --remove {key_id(entry.kind, entry.public)}",
                )
        key["file"] = _free_file(person["keys"], entry, "approvers")
        person["keys"].append(key)
    _write(folder / str(key["file"]), entry.public)


def _revocation(key: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry of a key that stands in the list already adds to it."""
    return {name: key[name] for name in key if name == "revoked"}


def _free_file(keys: list[dict[str, Any]], entry: Entry, where: str) -> str:
    taken = {str(key["file"]) for key in keys}
    suffix = _SUFFIX[entry.kind]
    names = (f"{where}/{entry.name}{f'-{n}' if n > 1 else ''}.{suffix}" for n in count(1))
    return next(name for name in names if name not in taken)


def remove(folder: Path, name: str, keyid: str, *, sealer: bool = False) -> str:
    """Take a key that was entered by mistake out of a trust folder; return its id.

    A person without any key left goes, too. Whoever calls it has made sure that nothing was
    decided or sealed with the key: what it signed could not be verified with this folder any more.

    Parameters:
        keyid: or its first digits, eight at least.
        sealer: the key seals bundles; those stand under no name.

    Raises:
        InputError: the person has no such key, or several that begin so.
        InputFileError: the folder cannot be read or written; the list is as it was.
    """
    with _alone(folder):
        place = folder / TRUST_FILE
        read_trust(folder)
        doc = parse_json(read_bounded(place, "the trust folder's list"))
        person = next((each for each in doc["people"] if each["name"] == name), None)
        listed = _keys_of(doc, person, sealer=sealer)
        keys = {key_id_of(folder, key): key for key in listed}
        found = [known for known in keys if known.startswith(keyid) and len(keyid) >= _SHORTEST]
        if len(found) != 1:
            who = "the list of sealers" if sealer else name
            has = ", ".join(keys) or "no key"
            raise InputError(
                f"{folder}: {who} has {len(found) or 'no'} key(s) {keyid[:64]!r}; nothing was"
                " changed",
                hint=f"{who} has {has}; give one whole id. With --sealer a key that seals is"
                " taken out, without it one that approves.",
            )
        gone = keys[found[0]]
        listed.remove(gone)
        if person is not None and not person["keys"]:
            doc["people"].remove(person)
        _write(place, f"{json.dumps(doc, indent=2, sort_keys=True)}\n")
        with suppress(OSError):
            (folder / str(gone["file"])).unlink()
    return found[0]


def _keys_of(
    doc: dict[str, Any], person: dict[str, Any] | None, *, sealer: bool
) -> list[dict[str, Any]]:
    listed = doc.get("sealers") if sealer else person and person["keys"]
    return listed or []


def key_id_of(folder: Path, key: dict[str, Any]) -> str:
    """Return the id of a key that the list of a trust folder names."""
    known = read_member(folder, str(key["file"])).decode("ascii", "replace")
    return key_id(str(key["kind"]), known)


def _standing(folder: Path, keys: list[dict[str, Any]], entry: Entry) -> dict[str, Any] | None:
    """Return the entry of this very key among a person's or the sealers', None where it is new."""
    for key in keys:
        known = read_member(folder, str(key["file"])).decode("ascii", "replace")
        same = key["kind"] == entry.kind and key_id(entry.kind, known) == key_id(
            entry.kind, entry.public
        )
        if same:
            found: dict[str, Any] = key
            return found
    return None


def _person(doc: dict[str, Any], entry: Entry) -> dict[str, Any]:
    for person in doc["people"]:
        if person["name"] == entry.name:
            if missing := sorted({*entry.dropped} - {*person["roles"]}):
                raise InputError(f"{entry.name} does not hold {', '.join(missing)}")
            person["roles"] = sorted({*person["roles"], *entry.roles} - {*entry.dropped})
            person["accounts"] = sorted({*person["accounts"], *entry.accounts})
            found: dict[str, Any] = person
            return found
    if entry.dropped:
        raise InputError(f"{entry.name} is not in this trust folder; no role can be taken away")
    made: dict[str, Any] = {
        "name": entry.name,
        "roles": list(entry.roles),
        "accounts": list(entry.accounts),
        "simulated": entry.simulated,
        "keys": [],
    }
    doc["people"].append(made)
    return made


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                os.fchmod(descriptor, 0o644)
            Path(draft).replace(path)
        finally:
            with suppress(OSError):
                Path(draft).unlink()
    except OSError as error:
        raise InputFileError(f"writing {path}: {error.strerror}") from None
