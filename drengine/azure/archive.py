"""Putting a sealed bundle where it cannot be changed: blobs with a policy and a legal hold.

Rules: a blob is never overwritten; each is read back and compared; what is protected is
said from the service's answer, not from the request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from drengine.azure.pipeline import Pipeline
from drengine.errors import AzureError, GuardError

if TYPE_CHECKING:
    from azure.storage.blob.aio import ContainerClient

_CONFLICT: Final = 409


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a blob cannot be changed or deleted.

    Attributes:
        locked: the time can be made longer, never shorter.
    """

    until_ms: int
    locked: bool
    legal_hold: bool


@dataclass(frozen=True, slots=True)
class Archived:
    """What the service says of the blobs that were read back."""

    blobs: int
    size_bytes: int
    until: str
    legal_hold: bool


class BlobArchive:
    """Writes new blobs into one container."""

    def __init__(self, pipeline: Pipeline, container_url: str) -> None:
        self._pipeline = pipeline
        self._url = container_url

    async def keep(self, files: Mapping[str, bytes], prefix: str, retention: Retention) -> Archived:
        """Upload files under a prefix, protect each, and read each back.

        Raises:
            GuardError: a blob is there already, or does not read back as it was written or
                protected.
            AzureError: the service refused.
        """
        size, until, held = 0, "", True
        async with self._client() as container:
            for name in sorted(files):
                blob = f"{prefix}{name}"
                await self._upload(container, blob, files[name], retention)
                found = await self._check(container, blob, files[name], retention)
                size, until = size + len(files[name]), found[0]
                held = held and found[1]
        return Archived(len(files), size, until, held)

    async def _upload(
        self, container: ContainerClient, blob: str, data: bytes, retention: Retention
    ) -> None:
        from azure.storage.blob import ImmutabilityPolicy  # noqa: PLC0415 (370 ms, when needed)

        client, send = container.get_blob_client(blob), self._pipeline.send
        try:
            await send(
                f"archiving {blob}",
                lambda: client.upload_blob(data, overwrite=False, length=len(data)),
            )
        except AzureError as error:
            if error.status != _CONFLICT:
                raise
            raise GuardError(
                f"archiving {blob}: a blob of that name is there already; it was not touched",
                hint="Choose another prefix.",
            ) from None
        policy = ImmutabilityPolicy(
            expiry_time=datetime.fromtimestamp(retention.until_ms // 1000, UTC),
            policy_mode="Locked" if retention.locked else "Unlocked",
        )
        await send(f"protecting {blob}", lambda: client.set_immutability_policy(policy))
        if retention.legal_hold:
            await send(f"holding {blob}", lambda: client.set_legal_hold(legal_hold=True))

    async def _check(
        self, container: ContainerClient, blob: str, data: bytes, retention: Retention
    ) -> tuple[str, bool]:
        client, read = container.get_blob_client(blob), self._pipeline.read

        async def downloaded() -> bytes:
            stream = await client.download_blob()
            content: bytes = await stream.readall()
            return content

        found = await read(f"reading {blob} back", downloaded)
        if hashlib.sha256(found).digest() != hashlib.sha256(data).digest():
            raise GuardError(f"archiving {blob}: what was read back is not what was written")
        properties = await read(f"looking at {blob}", client.get_blob_properties)
        policy = properties.immutability_policy
        expires = policy.expiry_time if policy else None
        if expires is None or expires.timestamp() < retention.until_ms // 1000:
            raise GuardError(f"archiving {blob}: the service names no policy that lasts so long")
        if retention.legal_hold and not properties.has_legal_hold:
            raise GuardError(f"archiving {blob}: the service names no legal hold")
        return expires.isoformat(), bool(properties.has_legal_hold)

    def _client(self) -> ContainerClient:
        from azure.storage.blob.aio import ContainerClient  # noqa: PLC0415 (370 ms, when needed)

        return ContainerClient.from_container_url(
            self._url, credential=self._pipeline.credential, **self._pipeline.client_options()
        )
