"""The trust folder: whose keys count, in which roles, from when until when.

```
<folder>/
  trust.json            who is who; schema drengine/trust/v1
  engine.pem            the key that seals bundles
  approvers/<name>.pem  (or .pub for SSH, .crt for CMS)
  tsa-ca.pem            the root of the time-stamp authority, where there is one
```

It is made by whoever trusts, never by a bundle. The register of approvers that a run is
started with is one document (`Register.to_json`), whose digest stands in record 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from drengine.errors import InputFileError
from drengine.model.canonical import Json, digest, sha256_hex
from drengine.model.times import utc_ms
from drengine.trust.dsse import parse_json
from drengine.trust.files import read_bounded
from drengine.trust.keys import keyid_of
from drengine.trust.people import Approver, TrustedKey

SCHEMA: Final = "drengine/trust/v1"
REGISTER_SCHEMA: Final = "drengine/approvers/v1"
TRUST_FILE: Final = "trust.json"
SEALER_FILE: Final = "engine.pem"
TSA_FILE: Final = "tsa-ca.pem"
KINDS: Final = ("p256", "ssh", "cms")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_MAX_PEOPLE: Final = 1000
_LIST: Final = ("schema", "people", "sealers", "tsa")
_PERSON: Final = ("name", "roles", "accounts", "simulated", "keys")
_KEY: Final = ("kind", "keyid", "file", "public", "not_before", "not_after", "revoked")


@dataclass(frozen=True, slots=True)
class Register:
    """The approvers of a run."""

    people: tuple[Approver, ...]

    def owner_of(self, keyid: str) -> tuple[Approver, TrustedKey] | None:
        """Return who a key belongs to."""
        for person in self.people:
            for key in person.keys:
                if key.keyid == keyid:
                    return person, key
        return None

    def to_json(self) -> dict[str, Json]:
        """Return the register as a run keeps it."""
        return {"schema": REGISTER_SCHEMA, "people": [each.to_json() for each in self.people]}

    @property
    def digest(self) -> str:
        """What record 0 says of the register."""
        return digest(self.to_json())

    @staticmethod
    def from_json(doc: Any) -> Register:
        """Return the register that a run keeps.

        Raises:
            ValueError: it is not one.
        """
        if not isinstance(doc, Mapping) or doc.get("schema") != REGISTER_SCHEMA:
            raise ValueError(f"is not a register of approvers ({REGISTER_SCHEMA})")
        return Register(_people(doc.get("people"), lambda entry: str(entry["public"])))


@dataclass(frozen=True, slots=True)
class Trust:
    """What a trust folder says.

    Attributes:
        sealers: keys that may seal bundles.
        tsa: the roots of time-stamp authorities, as one PEM text; empty where there are none.
        folder: where it was read from.
    """

    register: Register
    sealers: tuple[TrustedKey, ...]
    tsa: Path | None
    folder: Path


def read_trust(folder: Path) -> Trust:
    """Read a trust folder.

    Raises:
        InputFileError: it is not one; the message names the file.
    """
    place = folder / TRUST_FILE
    try:
        doc = parse_json(read_bounded(place, "the trust folder's list"))
        return _trust(doc, folder)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise InputFileError(
            f"reading {place}: {told}", hint="'drengine key trust' makes entries of this folder."
        ) from None


def _trust(doc: Any, folder: Path) -> Trust:
    if not isinstance(doc, dict) or doc.get("schema") != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    _require_known(doc, _LIST, "the list")

    def text(entry: Mapping[str, Any]) -> str:
        return read_member(folder, str(entry["file"])).decode("ascii")

    sealers = tuple(_key(entry, text) for entry in doc.get("sealers", []))
    if any(key.kind != "p256" for key in sealers):
        raise ValueError("a bundle is sealed with a P-256 key only")
    _require_once(sealers, folder)
    tsa = doc.get("tsa")
    if tsa is not None:
        read_member(folder, str(tsa))
    people = _people(doc.get("people", []), text)
    return Trust(Register(people), sealers, None if tsa is None else folder / str(tsa), folder)


def _require_once(sealers: tuple[TrustedKey, ...], folder: Path) -> None:
    """Refuse a sealing key that stands twice: a revocation in one entry would not hold.

    Raises:
        InputFileError: names the key, and what to take out.
    """
    for key in sealers:
        if sum(key.keyid == other.keyid for other in sealers) > 1:
            raise InputFileError(
                f"reading {folder / TRUST_FILE}: the sealing key {key.keyid} stands more than once"
                " among the sealers, so that a revocation in one entry would not hold; nothing in"
                " this folder is believed",
                hint="Take all entries of that key but one out of the list by hand; where one says"
                " 'revoked', keep that one.",
            )


def read_member(folder: Path, name: str) -> bytes:
    """Read a file that the list names; it must lie inside the folder.

    Raises:
        ValueError: the name leads elsewhere.
        InputFileError: it cannot be read.
    """
    parts = name.split("/")
    if not all(NAME.fullmatch(part) for part in parts):
        raise ValueError(f"{name[:60]!r} is not a file of this folder")
    return read_bounded(folder.joinpath(*parts), "a key of the trust folder")


def _people(entries: Any, text: Any) -> tuple[Approver, ...]:
    if not isinstance(entries, (list, tuple)) or len(entries) > _MAX_PEOPLE:
        raise ValueError("people is not a list")
    people = tuple(_person(entry, text) for entry in entries)
    names = [person.name.lower() for person in people]
    keyids = [key.keyid for person in people for key in person.keys]
    if len(set(names)) != len(names):
        raise ValueError("a name stands twice among the people")
    if len(set(keyids)) != len(keyids):
        # One key under two names would count one person twice.
        raise ValueError("one key stands under two names")
    return people


def _require_known(entry: Any, known: tuple[str, ...], what: str) -> None:
    """Refuse a field that nobody reads: a misspelt `revoked` would revoke nothing."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"{what} is not an object")
    for name in sorted(entry.keys() - set(known)):
        close = get_close_matches(name[:64], known, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{what} has an unknown field {name[:64]!r}{meant}")


def _person(entry: Mapping[str, Any], text: Any) -> Approver:
    _require_known(entry, _PERSON, "a person")
    name = str(entry["name"])
    if not NAME.fullmatch(name):
        raise ValueError(f"{name[:60]!r} is not a name of letters, digits, . _ @ and -")
    return Approver(
        name=name,
        roles=tuple(str(role) for role in entry.get("roles", ())),
        keys=tuple(_key(key, text) for key in entry["keys"]),
        accounts=tuple(str(account) for account in entry.get("accounts", ())),
        simulated=entry.get("simulated", False) is True,
    )


def _key(entry: Mapping[str, Any], text: Any) -> TrustedKey:
    _require_known(entry, _KEY, "a key")
    kind, public = str(entry["kind"]), str(text(entry))
    try:
        found = key_id(kind, public)
    except ValueError as error:
        raise ValueError(f"{entry.get('file', 'a key')}: {error}") from None
    if entry.get("keyid", found) != found:
        raise ValueError(f"a key says its id is {entry['keyid']}, but it is {found}")
    key = TrustedKey(kind, found, public)
    return replace(
        key,
        not_before_ms=_optional(entry, "not_before"),
        not_after_ms=_optional(entry, "not_after"),
        revoked_ms=_optional(entry, "revoked"),
    )


def _optional(entry: Mapping[str, Any], name: str) -> int | None:
    return None if entry.get(name) is None else utc_ms(entry[name])


def key_id(kind: str, public: str) -> str:
    """Return the id of a key: SHA-256 of the public key (p256, ssh) or certificate (cms).

    Raises:
        ValueError: the text is not a key of that kind.
    """
    import base64  # noqa: PLC0415 - with its siblings below, for two of three kinds only

    match kind:
        case "p256":
            return keyid_of(public)
        case "ssh":
            fields = public.split()
            if len(fields) < 2 or not fields[0].isascii():  # noqa: PLR2004 - type and key
                raise ValueError("is not a public key as SSH writes it")
            return sha256_hex(base64.b64decode(fields[1], validate=True))
        case "cms":
            from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - as above
                Encoding,
            )
            from cryptography.x509 import (  # noqa: PLC0415 - as above
                InvalidVersion,
                load_pem_x509_certificate,
            )

            try:
                found = load_pem_x509_certificate(public.encode())
            except InvalidVersion:
                raise ValueError("is no X.509 certificate of a known version") from None
            return sha256_hex(found.public_bytes(Encoding.DER))
        case _:
            raise ValueError(f"{kind[:20]!r} is not a kind of key: {', '.join(KINDS)}")
