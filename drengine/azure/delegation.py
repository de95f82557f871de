"""A SAS for the backup container, made with the operator's own sign-in.

The Blob service hands out a key for some hours (Get User Delegation Key); with it the token is
signed here, by azure-storage-blob. It never allows more than the operator's own role does, and
no key of the account is needed.

Source: REST "Get User Delegation Key"; the emulated service takes such tokens for the backups
of an HSM. That Managed HSM takes them as any other SAS is an inference: no recording shows it.

Rules:
- Key and token stay in memory. Another process makes its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from drengine.model.secret import Secret
from drengine.model.times import utc_seconds

if TYPE_CHECKING:
    from azure.storage.blob import UserDelegationKey

LASTS_MS: Final = 48 * 3_600_000
"""How long a token is valid; the key behind it may be for seven days."""

RENEWED_MS: Final = 25 * 3_600_000
"""One that is valid for less is not used for anything new.

Source: backuprestore.json: a token needs to be valid for 24 hours from the call.
"""

_SKEW_MS: Final = 15 * 60_000
"""So far the service's clock may be behind ours."""

KEY_QUERY: Final = "restype=service&comp=userdelegationkey"

_FIELDS: Final = {
    "SignedOid": "signed_oid",
    "SignedTid": "signed_tid",
    "SignedStart": "signed_start",
    "SignedExpiry": "signed_expiry",
    "SignedService": "signed_service",
    "SignedVersion": "signed_version",
    "Value": "value",
}


@dataclass(frozen=True, slots=True)
class Delegation:
    """A token, and until when it is valid."""

    sas: Secret
    until_ms: int

    def serves(self, now_ms: int) -> bool:
        """Whether it may be used for something new."""
        return self.until_ms - now_ms >= RENEWED_MS


def key_request(now_ms: int) -> bytes:
    """Return the body of the request for a key."""
    root = ET.Element("KeyInfo")
    ET.SubElement(root, "Start").text = utc_seconds(now_ms - _SKEW_MS)
    ET.SubElement(root, "Expiry").text = utc_seconds(now_ms + LASTS_MS)
    body: bytes = ET.tostring(root, "utf-8", xml_declaration=True)
    return body


def delegation_of(container_url: str, answer: ET.Element, rights: str, now_ms: int) -> Delegation:
    """Sign a token for a container with the key in an answer.

    Parameters:
        rights: letters in any order, as in `crdwl`.

    Raises:
        TypeError: the answer holds no key.
    """
    from azure.storage.blob import (  # noqa: PLC0415 (370 ms, when needed)
        ContainerSasPermissions,
        generate_container_sas,
    )

    place = urlsplit(container_url)
    until_ms = now_ms + LASTS_MS
    token = generate_container_sas(
        account_name=(place.hostname or "").partition(".")[0],
        container_name=place.path.strip("/"),
        user_delegation_key=_key(answer),
        permission=ContainerSasPermissions.from_string(rights),
        start=utc_seconds(now_ms - _SKEW_MS),
        expiry=utc_seconds(until_ms),
        protocol="https",
    )
    return Delegation(Secret(token), until_ms)


def role_advice(container_url: str) -> str:
    """Return what an operator lacks whose sign-in may make no token."""
    return (
        "Making a SAS with your own sign-in needs a role such as Storage Blob Data Contributor on"
        f" {urlsplit(container_url).hostname}; or plan with storage_identity, or a SAS as env:NAME."
    )


def _key(answer: ET.Element) -> UserDelegationKey:
    from azure.storage.blob import UserDelegationKey  # noqa: PLC0415 (as above)

    key = UserDelegationKey()  # type: ignore[no-untyped-call] # of a library
    for tag, name in _FIELDS.items():
        text = answer.findtext(tag)
        if not text:
            raise TypeError(f"the answer has no {tag}")
        setattr(key, name, text)
    return key
