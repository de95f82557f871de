"""Keys of a Managed HSM: reading them all, and using one inside the HSM.

Nothing is computed here: the SDK's CryptographyClient would wrap with the public key on
this machine and so prove nothing about the HSM. Wrap, unwrap and sign are always asked
of the service.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from azure.core.rest import HttpRequest

from drengine.azure.endpoints import host_of
from drengine.azure.hsm_clients import HsmClients
from drengine.errors import AzureError, GuardError
from drengine.model.cloud import KeyVersion
from drengine.model.together import together

_AT_ONCE: Final = 8
_KEY_PARTS: Final = 3  # keys/NAME/VERSION


async def key_names(clients: HsmClients) -> Sequence[str]:
    """Return the names of all keys, ordered."""

    async def listed() -> list[str]:
        return [str(item.name) async for item in clients.keys.list_properties_of_keys()]

    what = f"listing the keys of {clients.uri}"
    return sorted(await clients.pipeline.read(what, listed, listing=True))


async def key_versions(clients: HsmClients) -> Sequence[KeyVersion]:
    """Return every version of every key, ordered by name and time."""
    gate = asyncio.Semaphore(_AT_ONCE)
    names = await key_names(clients)
    kids = await together(*(_kids(clients, gate, name) for name in names))
    found = await together(*(_key(clients, gate, kid) for some in kids for kid in some))
    return sorted(found, key=lambda key: (key.name, key.created or 0, key.version))


async def use_key(clients: HsmClients, use: str, kid: str, algorithm: str, value: bytes) -> bytes:
    """POST `value` to `use` (wrapkey, unwrapkey, sign) of the key `kid`.

    Raises:
        GuardError: the key is on another HSM than these clients.
        AzureError: the service refused, or its answer carries no value.
    """
    if host_of(kid) != host_of(clients.uri):
        raise GuardError(
            f"the key {kid} is not on {host_of(clients.uri)}; nothing was sent",
            hint="use the key identifier of the HSM that is asked",
        )
    request = HttpRequest(
        "POST",
        f"{urlsplit(kid).path.rstrip('/')}/{use}",
        json={"alg": algorithm, "value": to_base64url(value)},
    )
    what = f"asking the HSM for {use} with {kid}"
    response = await clients.pipeline.read(
        what, lambda: clients.keys.send_request(request), by_post=True
    )
    try:
        return from_base64url(str(response.json()["value"]))
    except (ValueError, KeyError, TypeError):
        raise AzureError(f"{what}: the answer carries no value") from None


async def _kids(clients: HsmClients, gate: asyncio.Semaphore, name: str) -> list[str]:
    async def listed() -> list[str]:
        pages = clients.keys.list_properties_of_key_versions(name)
        return [str(item.id) async for item in pages]

    async with gate:
        what = f"listing the versions of the key {name}"
        return await clients.pipeline.read(what, listed, listing=True)


async def _key(clients: HsmClients, gate: asyncio.Semaphore, kid: str) -> KeyVersion:
    request = HttpRequest("GET", urlsplit(kid).path)

    async def document() -> dict[str, Any]:
        response = await clients.keys.send_request(request)
        return dict(response.json())

    async with gate:
        return key_version(await clients.pipeline.read(f"reading the key {kid}", document))


def key_version(bundle: Mapping[str, Any]) -> KeyVersion:
    """Return the facts of a key bundle: public parts and attributes.

    Raises:
        AzureError: it names no version of a key.
    """
    key = bundle.get("key") or {}
    attributes = bundle.get("attributes") or {}
    kid = str(key.get("kid") or "")
    parts = urlsplit(kid).path.strip("/").split("/")
    if len(parts) != _KEY_PARTS:
        raise AzureError(f"reading a key: {kid or 'no identifier'} names no version of a key")
    return KeyVersion(
        name=parts[1],
        version=parts[2],
        kid=kid,
        kty=str(key.get("kty") or ""),
        key_ops=tuple(sorted(str(use) for use in key.get("key_ops") or ())),
        enabled=bool(attributes.get("enabled")),
        created=attributes.get("created"),
        updated=attributes.get("updated"),
        nbf=attributes.get("nbf"),
        exp=attributes.get("exp"),
        n=str(key.get("n") or ""),
        e=str(key.get("e") or ""),
        crv=str(key.get("crv") or ""),
        x=str(key.get("x") or ""),
        y=str(key.get("y") or ""),
        recovery_level=str(attributes.get("recoveryLevel") or ""),
        tags=dict(bundle.get("tags") or {}),
    )


def to_base64url(raw: bytes) -> str:
    """Return `raw` as base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Return the bytes of base64url `text`, with or without padding.

    Raises:
        ValueError: it is not base64url.
    """
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), b"-_", True)
