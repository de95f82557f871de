"""The data plane of one Managed HSM, over the Key Vault SDKs.

Requests that start something go out raw through the SDK's authenticated pipeline: its
own `begin_*` methods poll, and lose the job id when they cannot. Status URLs are kept as
the service gave them; `operations` asks there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from azure.core.rest import HttpRequest

from drengine.azure import hsm_keys
from drengine.azure.domain_wire import download_body
from drengine.azure.hsm_clients import HsmClients
from drengine.azure.operations import document_of, status_of
from drengine.azure.pipeline import Pipeline
from drengine.errors import AzureError, UnknownOutcome
from drengine.model.cloud import (
    KeyVersion,
    Operation,
    OperationKind,
    OperationStatus,
    RoleAssignment,
    StorageTarget,
    TransferKey,
)
from drengine.model.secret import Secret

ROLE_PREFIX: Final = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/"
UPLOAD_STATUS_PATH: Final = "/securitydomain/upload/pending"
DOWNLOAD_STATUS_PATH: Final = "/securitydomain/download/pending"
_CONFLICT: Final = 409
_NEVER: Final = frozenset({"NotFound", "ResourceNotFound", "404"})
"""Codes of a 404 that say that no security domain was ever uploaded: no recording has one."""


class AzureHsmData:
    """`ports.HsmData` of the HSM at `uri`."""

    def __init__(self, pipeline: Pipeline, uri: str) -> None:
        self._pipeline = pipeline
        self.clients = HsmClients(pipeline, uri)
        self._uri = self.clients.uri

    async def transfer_key(self) -> TransferKey:
        """Enter recovery mode and return the exchange key (GET /securitydomain/upload)."""
        what = f"getting the exchange key of {self._uri}"
        request = HttpRequest("GET", "/securitydomain/upload")
        response = await self._pipeline.read(
            what, lambda: self.clients.domain.send_request(request)
        )
        try:
            return transfer_key(response.json())
        except (ValueError, KeyError, TypeError, IndexError):
            raise AzureError(f"{what}: the answer carries no certificate") from None

    async def start_upload(self, blob: bytes) -> Operation:
        """POST the restore blob to /securitydomain/upload."""
        request = HttpRequest("POST", "/securitydomain/upload", json={"value": blob.decode()})
        answer = await self._pipeline.send(
            f"uploading the security domain to {self._uri}",
            lambda: self.clients.domain.send_request(request),
        )
        return Operation(
            kind=OperationKind.SD_UPLOAD,
            url=answer.status_url or f"{self._uri}{UPLOAD_STATUS_PATH}",
            resource=self._uri,
            request_id=answer.request_id,
            retry_after_ms=answer.retry_after_ms,
        )

    async def upload_status(self) -> OperationStatus | None:
        """Return the singleton upload operation's status, None where there never was one."""
        request = HttpRequest("GET", UPLOAD_STATUS_PATH)
        what = f"asking {self._uri} for the state of the security domain"
        response = await self._pipeline.find(
            what,
            lambda: self.clients.domain.send_request(request),
            absent=_NEVER,
        )
        if response is None:
            return None
        operation = Operation(OperationKind.SD_UPLOAD, f"{self._uri}{UPLOAD_STATUS_PATH}")
        headers = {name.lower(): value for name, value in response.headers.items()}
        return status_of(operation, response.status_code, headers, document_of(what, response))

    async def start_download(
        self, certificates: Sequence[bytes], required: int
    ) -> tuple[bytes, Operation]:
        """POST /securitydomain/download; the domain is in the answer."""
        body = download_body(certificates, required)
        request = HttpRequest("POST", "/securitydomain/download", json=body)
        what = f"downloading the security domain of {self._uri}"
        answer = await self._pipeline.send(what, lambda: self.clients.domain.send_request(request))
        value = answer.json().get("value")
        if not isinstance(value, str) or not value:
            raise UnknownOutcome(
                f"{what}: accepted with {answer.status}, but the answer holds no domain",
                hint="download it again: the HSM keeps the domain, only the wrapping is new",
            )
        operation = Operation(
            kind=OperationKind.SD_DOWNLOAD,
            url=answer.status_url or f"{self._uri}{DOWNLOAD_STATUS_PATH}",
            resource=self._uri,
            request_id=answer.request_id,
            retry_after_ms=answer.retry_after_ms,
        )
        return value.encode(), operation

    async def start_backup(self, target: StorageTarget) -> Operation:
        """POST /backup."""
        request = HttpRequest("POST", "/backup", json=storage_body(target))
        return await self._start_job(f"starting a backup of {self._uri}", request, "backup", target)

    async def start_restore(self, target: StorageTarget, folder: str) -> Operation:
        """PUT /restore: replaces all keys and role assignments."""
        request = HttpRequest("PUT", "/restore", json=_restore_body(target, folder))
        what = f"starting the restore of {folder} into {self._uri}"
        return await self._start_job(what, request, "restore", target)

    async def start_restore_check(self, target: StorageTarget, folder: str) -> Operation:
        """PUT /prerestore: the service's own check; changes nothing that lasts."""
        request = HttpRequest("PUT", "/prerestore", json=_restore_body(target, folder))
        what = f"checking whether {folder} can be restored into {self._uri}"
        return await self._start_job(what, request, "restore", target)

    async def keys(self) -> Sequence[KeyVersion]:
        """Return every version of every key, with public parts."""
        return await hsm_keys.key_versions(self.clients)

    async def key_names(self) -> Sequence[str]:
        """Return the names of all keys (one listing, cheap)."""
        return await hsm_keys.key_names(self.clients)

    async def role_assignments(self) -> Sequence[RoleAssignment]:
        """Return all local role assignments, at every scope below `/`."""

        async def listed() -> list[RoleAssignment]:
            pages = self.clients.roles.list_role_assignments("/")
            return [_role_assignment(item) async for item in pages]

        what = f"listing the role assignments of {self._uri}"
        found = await self._pipeline.read(what, listed, listing=True)
        return sorted(found, key=lambda one: (one.scope, one.role, one.principal, one.name))

    async def put_role_assignment(self, assignment: RoleAssignment) -> None:
        """Create it; the same again is accepted (409 RoleAssignmentExists counts as done)."""
        create = self.clients.roles.create_role_assignment
        try:
            await self._pipeline.send(
                f"assigning the role {assignment.role} at {assignment.scope} of {self._uri}",
                lambda: create(
                    assignment.scope,
                    ROLE_PREFIX + _guid(assignment.role),
                    assignment.principal,
                    name=assignment.name,
                ),
            )
        except AzureError as error:
            if error.status != _CONFLICT or error.service_code != "RoleAssignmentExists":
                raise

    async def wrap(self, kid: str, algorithm: str, value: bytes) -> bytes:
        """POST wrapkey: always in the HSM, never locally with the public key."""
        return await hsm_keys.use_key(self.clients, "wrapkey", kid, algorithm, value)

    async def unwrap(self, kid: str, algorithm: str, value: bytes) -> bytes:
        """POST unwrapkey."""
        return await hsm_keys.use_key(self.clients, "unwrapkey", kid, algorithm, value)

    async def sign(self, kid: str, algorithm: str, digest: bytes) -> bytes:
        """POST sign."""
        return await hsm_keys.use_key(self.clients, "sign", kid, algorithm, digest)

    async def _start_job(
        self, what: str, request: HttpRequest, route: str, target: StorageTarget
    ) -> Operation:
        answer = await self._pipeline.send(
            what,
            lambda: self.clients.backups.send_request(request),
            secrets=_texts_of(target),
        )
        job = str(answer.json().get("jobId") or "") or _job_of(answer.status_url)
        if not job:
            raise UnknownOutcome(
                f"{what}: accepted with {answer.status}, but the answer names no job; it runs, "
                "and cannot be asked for",
                hint="look at the HSM and at the container before anything is sent again",
            )
        return Operation(
            kind=OperationKind.HSM_JOB,
            url=answer.status_url or f"{self._uri}/{route}/{job}/pending",
            job=job,
            resource=self._uri,
            request_id=answer.request_id,
            retry_after_ms=answer.retry_after_ms,
        )


def transfer_key(doc: Mapping[str, Any]) -> TransferKey:
    """Return the exchange key of an answer; the service nests it as text or as an object.

    The fingerprint is computed here and not taken from the answer.

    Raises:
        ValueError, KeyError, TypeError, IndexError: there is no certificate in it.
    """
    key = doc["transfer_key"]
    if isinstance(key, str):
        try:
            key = json.loads(key)
        except RecursionError:
            raise ValueError("the transfer key is nested too deeply to be read") from None
    certificate = base64.b64decode(key["x5c"][0], validate=True)
    return TransferKey(certificate, hsm_keys.to_base64url(sha256(certificate).digest()))


def storage_body(target: StorageTarget) -> dict[str, Any]:
    """Return how `target` is told to the HSM: with a SAS, or for its managed identity."""
    if target.sas is None:
        return {"storageResourceUri": target.container_url, "useManagedIdentity": True}
    return {
        "storageResourceUri": target.container_url,
        "token": sas_text(target),
        "useManagedIdentity": False,
    }


def sas_text(target: StorageTarget) -> str:
    """Return the SAS of `target` without a leading `?`."""
    sas = target.sas
    text = sas.reveal() if isinstance(sas, Secret) else str(sas or "")
    return text.removeprefix("?")


def _restore_body(target: StorageTarget, folder: str) -> dict[str, Any]:
    return {"sasTokenParameters": storage_body(target), "folderToRestore": folder}


def _texts_of(target: StorageTarget) -> list[str]:
    return [sas_text(target)] if target.sas is not None else []


def _job_of(url: str) -> str:
    parts = urlsplit(url).path.strip("/").split("/")
    return parts[-2] if len(parts) > 1 and parts[-1] == "pending" else ""


def _guid(role: str) -> str:
    return role.rsplit("/", 1)[-1].lower()


def _role_assignment(item: Any) -> RoleAssignment:
    return RoleAssignment(
        name=str(item.name),
        scope=_scope_text(item.properties.scope),
        role=_guid(str(item.properties.role_definition_id)),
        principal=str(item.properties.principal_id),
    )


def _scope_text(scope: object) -> str:
    # The SDK gives an enum member for `/` and `/keys`, plain text for a single key.
    return str(getattr(scope, "value", scope))
