"""Putting a sealed bundle where it cannot be changed: blobs with a policy and a legal hold.

Rules:
- A blob is never overwritten. One that is there already with the same content is kept, so
  that an archive that was interrupted is completed by the same command.
- A blob's protection is made longer, never shorter, and a hold is never lifted.
- Each blob is read back and compared before it is protected: what is wrong is not locked away
  for years. Where it may have been changed in between, it is read once more.
- What is protected is said from the service's answer, not from the request.
- A blob is read in parts that fit an answer's limit, and written in one request: a send is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from drengine.azure.pipeline import Pipeline
from drengine.azure.transport import MAX_BODY_BYTES
from drengine.errors import AzureError, GuardError

if TYPE_CHECKING:
    from azure.storage.blob import BlobProperties
    from azure.storage.blob.aio import ContainerClient

_CONFLICT: Final = 409
_PART_BYTES: Final = MAX_BODY_BYTES // 2
"""So much is asked for at once: with its head an answer stays far below its limit."""

_MOST_BYTES: Final = 5000 * 1024 * 1024
"""Put Blob takes so much in one request; azure-storage-blob would split 64 MiB into several."""

_LOCKED: Final = "Locked"
_UNPROTECTED: Final = (
    "The container needs version-level immutability, and this principal the right to set it."
    " Then give the same command again."
)
_OTHER: Final = (
    "a blob of that name is there already with other content; it was not touched",
    "Choose another prefix.",
)
_NOT_AS_WRITTEN: Final = (
    "what was read back is not what was written; it was not protected",
    "Give the same command with another prefix, and keep this blob for a look.",
)
_CHANGED: Final = (
    "it was changed while it was being protected, and is protected so",
    "Find out who writes to this container, then give the same command with another prefix.",
)


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
    """What the service says of the blobs that were read back.

    Attributes:
        until: when the first of them can be changed again.
    """

    blobs: int
    size_bytes: int
    until: str
    legal_hold: bool


class BlobArchive:
    """Writes new blobs into one container.

    Attributes:
        kept: how many blobs are there, protected and read back.
    """

    def __init__(self, pipeline: Pipeline, container_url: str) -> None:
        self._pipeline = pipeline
        self._url = container_url
        self.kept = 0

    async def keep(self, files: Mapping[str, bytes], prefix: str, retention: Retention) -> Archived:
        """Upload files under a prefix, protect each, and read each back.

        Raises:
            GuardError: a blob is there already with other content, or does not read back as
                it was written or protected.
            AzureError: the service refused.
            UnknownOutcome: an answer was lost; `keep` may simply be called again.
        """
        size, ends, held = 0, list[datetime](), True
        async with self._client() as container:
            for name in sorted(files):
                blob = f"{prefix}{name}"
                etag = await self._write(container, blob, files[name])
                await self._protect(container, blob, retention)
                ends_at, found = await self._protection(container, blob, retention)
                if str(found.etag) != etag:
                    await self._compare(container, blob, files[name], _CHANGED)
                self.kept += 1
                size, held = size + len(files[name]), held and bool(found.has_legal_hold)
                ends.append(ends_at)
        return Archived(len(files), size, min(ends).isoformat() if ends else "", held)

    async def _write(self, container: ContainerClient, blob: str, data: bytes) -> str:
        """Upload a blob that is not there yet, and read it back; return its ETag."""
        client, wrong = container.get_blob_client(blob), _NOT_AS_WRITTEN
        try:
            await self._pipeline.send(
                f"archiving {blob}",
                lambda: client.upload_blob(data, overwrite=False, length=len(data)),
            )
        except AzureError as error:
            if error.status != _CONFLICT:
                raise
            wrong = _OTHER
        return await self._compare(container, blob, data, wrong)

    async def _protect(self, container: ContainerClient, blob: str, retention: Retention) -> None:
        from azure.storage.blob import ImmutabilityPolicy  # noqa: PLC0415 (370 ms, when needed)

        client, send = container.get_blob_client(blob), self._pipeline.send
        found = await self._pipeline.read(f"looking at {blob}", client.get_blob_properties)
        expires, mode = _policy_of(found)
        until = retention.until_ms // 1000
        if expires is None or expires.timestamp() < until or (retention.locked and mode != _LOCKED):
            policy = ImmutabilityPolicy(
                expiry_time=datetime.fromtimestamp(
                    until if expires is None else max(until, int(expires.timestamp())), UTC
                ),
                policy_mode=_LOCKED if retention.locked or mode == _LOCKED else "Unlocked",
            )
            await send(f"protecting {blob}", lambda: client.set_immutability_policy(policy))
        if retention.legal_hold and not found.has_legal_hold:
            await send(f"holding {blob}", lambda: client.set_legal_hold(legal_hold=True))

    async def _compare(
        self, container: ContainerClient, blob: str, data: bytes, wrong: tuple[str, str]
    ) -> str:
        """Read a blob back and return the ETag of what was read.

        Raises:
            GuardError: it is not `data`; `wrong` says what that means, and what to do.
        """
        client = container.get_blob_client(blob)

        async def downloaded() -> tuple[bytes, str]:
            stream = await client.download_blob()
            content: bytes = await stream.readall()
            return content, str(stream.properties.etag)

        content, etag = await self._pipeline.read(f"reading {blob} back", downloaded)
        if content != data:
            raise GuardError(f"archiving {blob}: {wrong[0]}", hint=wrong[1])
        return etag

    async def _protection(
        self, container: ContainerClient, blob: str, retention: Retention
    ) -> tuple[datetime, BlobProperties]:
        """Return until when a blob is protected, and what the service says of it."""
        client = container.get_blob_client(blob)
        found = await self._pipeline.read(f"looking at {blob}", client.get_blob_properties)
        expires, mode = _policy_of(found)
        wrong = ""
        if expires is None or expires.timestamp() < retention.until_ms // 1000:
            wrong = "the service names no policy that lasts so long"
        elif retention.locked and mode != _LOCKED:
            wrong = "the service does not say that its policy is locked"
        elif retention.legal_hold and not found.has_legal_hold:
            wrong = "the service names no legal hold"
        if wrong or expires is None:
            raise GuardError(f"archiving {blob}: {wrong}", hint=_UNPROTECTED)
        return expires, found

    def _client(self) -> ContainerClient:
        from azure.storage.blob.aio import ContainerClient  # noqa: PLC0415 (370 ms, when needed)

        return ContainerClient.from_container_url(
            self._url,
            credential=self._pipeline.credential,
            max_single_get_size=_PART_BYTES,
            max_chunk_get_size=_PART_BYTES,
            max_single_put_size=_MOST_BYTES,
            **self._pipeline.client_options(),
        )


def _policy_of(properties: BlobProperties) -> tuple[datetime | None, str]:
    """Return until when a blob is protected, and in which mode."""
    policy = properties.immutability_policy
    if not policy or policy.expiry_time is None:
        return None, ""
    return policy.expiry_time, str(policy.policy_mode or "").capitalize()
