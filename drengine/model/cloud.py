"""What the adapters read from Azure, as values with plain JSON forms.

Only fields that a decision or the evidence needs are here. Times are UTC text or
epoch seconds as the service gives them. Thumbprints are compared in upper case,
resource ids and host names in lower case.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from drengine.model.canonical import JsonObject


class Fact:
    """Mixin: a frozen dataclass that can be written into the journal."""

    def to_json(self) -> dict[str, Any]:
        """Return the fact as plain JSON."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]


class OperationKind(StrEnum):
    """How a long-running operation is polled."""

    ARM = "arm"  # Azure-AsyncOperation or Location URL of the resource manager
    HSM_JOB = "hsm_job"  # /backup/{job}/pending or /restore/{job}/pending
    SD_UPLOAD = "sd_upload"  # the singleton /securitydomain/upload/pending
    SD_DOWNLOAD = "sd_download"  # the singleton /securitydomain/download/pending


@dataclass(frozen=True, slots=True)
class Operation(Fact):
    """A long-running operation, enough to re-attach to it on another host.

    Attributes:
        url: the status URL as the service gave it; only its own host may be asked.
        job: the job id, where there is one.
        resource: the URL or id of the thing it works on.
        request_id: the service's request id of the send.
        retry_after_ms: what the answer to the send asked for, None where it did not.
    """

    kind: OperationKind
    url: str
    job: str = ""
    resource: str = ""
    request_id: str = ""
    retry_after_ms: int | None = None

    @staticmethod
    def from_json(doc: JsonObject) -> Operation:
        """Return the operation that a journal body describes."""
        asked = doc.get("retry_after_ms")
        return Operation(
            kind=OperationKind(str(doc["kind"])),
            url=str(doc["url"]),
            job=str(doc.get("job", "")),
            resource=str(doc.get("resource", "")),
            request_id=str(doc.get("request_id", "")),
            retry_after_ms=asked if isinstance(asked, int) else None,
        )


class OperationState(StrEnum):
    """Where an operation stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"  # the status URL is gone (404): read the resource instead


@dataclass(frozen=True, slots=True)
class OperationStatus(Fact):
    """The answer to a poll.

    Attributes:
        result: what the terminal answer carried that matters (a backup's folder URL).
        retry_after_ms: what the service asked for, None where it did not.
    """

    state: OperationState
    detail: str = ""
    error_code: str = ""
    result: str = ""
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class HsmResource(Fact):
    """A Managed HSM as the resource manager shows it.

    Source: Microsoft.KeyVault/managedHSMs.
    """

    id: str
    name: str
    resource_group: str
    location: str
    uri: str
    provisioning_state: str
    status_message: str
    activation_status: str
    purge_protection: bool
    soft_delete_days: int
    tenant: str
    admins: tuple[str, ...]
    identities: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    public_access: str = "Enabled"
    sku: str = ""


@dataclass(frozen=True, slots=True)
class DeletedHsm(Fact):
    """A soft-deleted Managed HSM; recovering it is cheaper than rebuilding it."""

    name: str
    location: str
    deletion_date: str
    scheduled_purge_date: str
    purge_protection: bool
    hsm_id: str


@dataclass(frozen=True, slots=True)
class NameCheck(Fact):
    """The answer of checkMhsmNameAvailability."""

    available: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class HsmOffer(Fact):
    """Whether a subscription may create Managed HSMs, and where.

    Attributes:
        registration: the state of its provider Microsoft.KeyVault, as in `Registered`.
        regions: short names, ordered; empty where the provider does not say.
    """

    registration: str
    regions: tuple[str, ...]

    @property
    def is_usable(self) -> bool:
        """Whether the provider may answer: registered, being registered, or it does not say.

        While it is being registered it takes requests in the regions that are done already.
        Source: "Azure resource providers and types", registration state.
        """
        return self.registration.lower() in ("", "registered", "registering")


@dataclass(frozen=True, slots=True)
class Permission(Fact):
    """What one role assignment of the caller allows at a scope.

    Attributes:
        actions: as role definitions write them: `Microsoft.KeyVault/managedHSMs/*`.
        not_actions: what of these it does not allow; another assignment still may.
    """

    actions: tuple[str, ...]
    not_actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewHsm:
    """What to create. Source: PUT Microsoft.KeyVault/managedHSMs."""

    resource_group: str
    name: str
    location: str
    tenant: str
    admins: tuple[str, ...]
    purge_protection: bool
    soft_delete_days: int
    sku: str = "Standard_B1"
    identities: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TransferKey:
    """The security-domain exchange key. Source: GET /securitydomain/upload."""

    certificate_der: bytes
    x5t_256: str


@dataclass(frozen=True, slots=True)
class StorageTarget:
    """Where an HSM reads or writes a backup.

    Attributes:
        container_url: `https://ACCOUNT.blob.SUFFIX/CONTAINER`.
        sas: the token without a leading `?`; None means the HSM's managed identity.
    """

    container_url: str
    sas: Any | None = None  # model.secret.Secret; Any keeps this module free of it


@dataclass(frozen=True, slots=True)
class KeyVersion(Fact):
    """One version of a key: public parts and attributes only.

    Attributes:
        n, e: RSA public parts as base64url; x, y, crv: EC's. Empty where the kind has none.
        created, updated, nbf, exp: epoch seconds, None where unset.
    """

    name: str
    version: str
    kid: str
    kty: str
    key_ops: tuple[str, ...]
    enabled: bool
    created: int | None = None
    updated: int | None = None
    nbf: int | None = None
    exp: int | None = None
    n: str = ""
    e: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""
    recovery_level: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoleAssignment(Fact):
    """A local role assignment of an HSM. Roles are compared by GUID, never by name."""

    name: str
    scope: str
    role: str
    principal: str


@dataclass(frozen=True, slots=True)
class BlobItem(Fact):
    """A blob as a listing shows it."""

    name: str
    size: int
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Instance(Fact):
    """A SQL Managed Instance."""

    id: str
    name: str
    resource_group: str
    location: str
    state: str
    tier: str
    fqdn: str
    principals: tuple[str, ...]
    """Object ids of its identities that may use keys, the primary one first."""


@dataclass(frozen=True, slots=True)
class InstanceKey(Fact):
    """A key row of an instance; `uri` is empty for the service-managed row."""

    name: str
    type: str
    uri: str
    thumbprint: str
    created: str = ""


@dataclass(frozen=True, slots=True)
class Protector(Fact):
    """An instance's TDE protector."""

    key_name: str
    type: str
    uri: str
    thumbprint: str
    auto_rotation: bool


@dataclass(frozen=True, slots=True)
class Database(Fact):
    """A managed database and, where it is Inaccessible, why."""

    name: str
    status: str
    reason_code: str = ""
    reason: str = ""
    reason_kind: str = ""
    reason_key: str = ""


@dataclass(frozen=True, slots=True)
class FailoverGroup(Fact):
    """An instance failover group as one region sees it; ids swap after a failover."""

    id: str
    name: str
    resource_group: str
    location: str
    role: str
    state: str
    primary: str
    secondary: str
    partner_location: str = ""


@dataclass(frozen=True, slots=True)
class Exchange(Fact):
    """One HTTP request and its answer, redacted: what evidence keeps of it.

    Attributes:
        path: path and allow-listed query keys; a SAS signature never is one.
        status: 0 where no answer came.
        request_id: the service's id; client_request_id: ours.
        ms: wall milliseconds.
        sent: whether the request changes something and carried a bearer.
    """

    method: str
    host: str
    path: str
    status: int
    request_id: str
    client_request_id: str
    ms: int
    sent: bool
    body_sha256: str = ""
