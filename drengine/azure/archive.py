"""Putting a sealed bundle where it cannot be changed: blobs with a policy and a legal hold.

Rules: a blob is never overwritten; each is read back and compared; what is protected is
said from the service's answer, not from the request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drengine.azure.pipeline import Pipeline
from drengine.errors import GuardError

if TYPE_CHECKING:
    from azure.storage.blob.aio import ContainerClient


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
        from azure.core.exceptions import ResourceExistsError  # noqa: PLC0415 (with the next)
        from azure.storage.blob import ImmutabilityPolicy  # noqa: PLC0415 (370 ms, when needed)

        client = container.get_blob_client(blob)
        try:
            await client.upload_blob(data, overwrite=False)
        except ResourceExistsError:
            raise GuardError(
                f"archiving {blob}: a blob of that name is there already; it was not touched",
                hint="Choose another prefix.",
            ) from None
        policy = ImmutabilityPolicy(
            expiry_time=datetime.fromtimestamp(retention.until_ms // 1000, UTC),
            policy_mode="Locked" if retention.locked else "Unlocked",
        )
        await client.set_immutability_policy(policy)
        if retention.legal_hold:
            await client.set_legal_hold(legal_hold=True)

    async def _check(
        self, container: ContainerClient, blob: str, data: bytes, retention: Retention
    ) -> tuple[str, bool]:
        stream = await container.get_blob_client(blob).download_blob()
        found = await stream.readall()
        if hashlib.sha256(found).digest() != hashlib.sha256(data).digest():
            raise GuardError(f"archiving {blob}: what was read back is not what was written")
        properties = await container.get_blob_client(blob).get_blob_properties()
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
