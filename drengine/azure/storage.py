"""Reading backup containers, over azure-storage-blob. Nothing is ever written here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from drengine.azure.hsm_data import sas_text
from drengine.azure.pipeline import Pipeline
from drengine.errors import NotAuthorized
from drengine.model.cloud import BlobItem, StorageTarget

if TYPE_CHECKING:
    from azure.storage.blob.aio import ContainerClient

T = TypeVar("T")


class BlobStorage:
    """`ports.Storage`: with the operator's own rights, or with the SAS of the target.

    A SAS that was made for the HSM need not allow listing: where it does not, the
    operator's own rights decide.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def list_blobs(self, target: StorageTarget, prefix: str) -> Sequence[BlobItem]:
        """Return the blobs under `prefix`, ordered by name."""

        async def listed(client: ContainerClient) -> list[BlobItem]:
            pages = client.list_blobs(name_starts_with=prefix or None)
            return [
                BlobItem(str(blob.name), int(blob.size or 0), str(blob.etag or "").strip('"'))
                async for blob in pages
            ]

        found = await self._read(target, f"listing {target.container_url}/{prefix}", listed)
        return sorted(found, key=lambda blob: blob.name)

    async def list_folders(self, target: StorageTarget, prefix: str) -> Sequence[str]:
        """Return the top-level folder names that start with `prefix`, ordered by name."""

        async def listed(client: ContainerClient) -> list[str]:
            pages = client.walk_blobs(name_starts_with=prefix or None, delimiter="/")
            return [str(item.name) async for item in pages]

        found = await self._read(target, f"listing the folders of {target.container_url}", listed)
        return sorted(name.rstrip("/") for name in found if name.endswith("/"))

    async def _read(
        self,
        target: StorageTarget,
        what: str,
        listed: Callable[[ContainerClient], Awaitable[T]],
    ) -> T:
        if target.sas is not None:
            try:
                return await self._pipeline.read(
                    what, lambda: listed(self._client(target, with_sas=True))
                )
            except NotAuthorized:
                pass  # the operator may list where the HSM's SAS may not
        return await self._pipeline.read(what, lambda: listed(self._client(target, with_sas=False)))

    def _client(self, target: StorageTarget, *, with_sas: bool) -> ContainerClient:
        from azure.core.credentials import AzureSasCredential  # noqa: PLC0415 (with the next one)
        from azure.storage.blob.aio import ContainerClient  # noqa: PLC0415 (370 ms, when needed)

        credential = AzureSasCredential(sas_text(target)) if with_sas else self._pipeline.credential
        return ContainerClient.from_container_url(
            target.container_url, credential=credential, **self._pipeline.client_options()
        )
