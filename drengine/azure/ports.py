"""The Protocols through which actions and observations see Azure.

Rules of every implementation:
- A method whose name starts with `start_`, `put_` or `create_` sends exactly one request
  that changes something, once: no layer below repeats it. All others only read.
- `AzureError` means the service answered and refused: the request had no effect.
  `UnknownOutcome` means the request may have arrived (lost answer, 5xx): look first.
- Reads retry transient faults themselves, within the deadline of the call.
- Nothing is retained between calls that a crash would lose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from drengine.model.canonical import JsonObject
from drengine.model.cloud import (
    BlobItem,
    Database,
    DeletedHsm,
    FailoverGroup,
    HsmOffer,
    HsmResource,
    Instance,
    InstanceKey,
    KeyVersion,
    NameCheck,
    NewHsm,
    Operation,
    OperationStatus,
    Permission,
    Protector,
    RoleAssignment,
    StorageTarget,
    TransferKey,
)
from drengine.model.plan import CloudIdentity
from drengine.model.secret import Secret

AuthKind: TypeAlias = Literal["azure-cli", "environment"]
"""The ways to sign in; there is no search through further ones."""


class Identity(Protocol):
    """Who is signed in, and where."""

    async def whoami(self) -> CloudIdentity:
        """Return cloud, tenant, subscription and principal of the session.

        The principal is the `oid` claim of a token for the resource manager.

        Raises:
            NotAuthorized: nobody is signed in.
        """
        ...


class ManagedHsms(Protocol):
    """The resource-manager side of Managed HSM (Microsoft.KeyVault/managedHSMs)."""

    async def get(self, resource_group: str, name: str) -> HsmResource | None:
        """Return the resource, None where it does not exist."""
        ...

    async def find(self, name: str) -> HsmResource | None:
        """Return the resource of that name anywhere in the subscription."""
        ...

    async def find_deleted(self, name: str) -> DeletedHsm | None:
        """Return the soft-deleted HSM of that name in the subscription."""
        ...

    async def has_group(self, resource_group: str) -> bool:
        """Whether the subscription has that resource group."""
        ...

    async def check_name(self, name: str) -> NameCheck:
        """Ask whether the name is free in the whole cloud."""
        ...

    async def create_hsm(self, new: NewHsm) -> Operation:
        """PUT the resource."""
        ...

    async def start_update(self, resource_group: str, name: str, patch: JsonObject) -> Operation:
        """PATCH the resource with `patch` (`tags`, `identity`, `properties`)."""
        ...

    async def start_delete(self, resource_group: str, name: str) -> Operation:
        """Soft-delete the resource."""
        ...

    async def start_purge(self, location: str, name: str) -> Operation:
        """Purge the soft-deleted resource; refused under purge protection."""
        ...


class Subscription(Protocol):
    """What the subscription offers, and what lies in it besides HSMs and instances.

    Who may create an HSM need not be allowed to read these: `NotAuthorized` is no fault here.
    """

    async def hsm_offer(self) -> HsmOffer:
        """Return whether Managed HSMs may be created, and in which regions."""
        ...

    async def geographies(self) -> Mapping[str, str]:
        """Return the geography of each region that the subscription sees, by its short name."""
        ...

    async def has_identity(self, identity: str) -> bool:
        """Whether a user-assigned identity exists.

        Parameters:
            identity: its full resource id, in whatever subscription.
        """
        ...

    async def permissions(self, scope: str) -> Sequence[Permission]:
        """Return what the roles of whoever is signed in allow at a scope.

        Parameters:
            scope: the resource id of a resource group or of a resource.
        """
        ...


class HsmData(Protocol):
    """The data plane of one Managed HSM."""

    async def transfer_key(self) -> TransferKey:
        """Enter recovery mode and return the exchange key (GET /securitydomain/upload)."""
        ...

    async def start_upload(self, blob: bytes) -> Operation:
        """POST the restore blob to /securitydomain/upload."""
        ...

    async def upload_status(self) -> OperationStatus | None:
        """Return the singleton upload operation's status, None where there never was one."""
        ...

    async def start_download(
        self, certificates: Sequence[bytes], required: int
    ) -> tuple[bytes, Operation]:
        """POST /securitydomain/download: the domain, wrapped for these certificates (DER).

        On a HSM that is not activated this activates it. The domain is in this answer only,
        and can be downloaded again, wrapped anew, while the HSM lives.
        """
        ...

    async def start_backup(self, target: StorageTarget) -> Operation:
        """POST /backup."""
        ...

    async def start_restore(self, target: StorageTarget, folder: str) -> Operation:
        """PUT /restore: replaces all keys and role assignments."""
        ...

    async def start_restore_check(self, target: StorageTarget, folder: str) -> Operation:
        """PUT /prerestore: the service's own check; changes nothing that lasts."""
        ...

    async def keys(self) -> Sequence[KeyVersion]:
        """Return every version of every key, with public parts."""
        ...

    async def key_names(self) -> Sequence[str]:
        """Return the names of all keys (one listing, cheap)."""
        ...

    async def role_assignments(self) -> Sequence[RoleAssignment]:
        """Return all local role assignments, at every scope below `/`."""
        ...

    async def put_role_assignment(self, assignment: RoleAssignment) -> None:
        """Create it; the same again is accepted (409 RoleAssignmentExists counts as done)."""
        ...

    async def wrap(self, kid: str, algorithm: str, value: bytes) -> bytes:
        """POST wrapkey: always in the HSM, never locally with the public key."""
        ...

    async def unwrap(self, kid: str, algorithm: str, value: bytes) -> bytes:
        """POST unwrapkey."""
        ...

    async def sign(self, kid: str, algorithm: str, digest: bytes) -> bytes:
        """POST sign."""
        ...


class SqlInstances(Protocol):
    """SQL Managed Instances, their keys, protectors, databases and failover groups.

    `instance` is a full resource id.
    """

    async def instances(self) -> Sequence[Instance]:
        """Return every instance of the subscription."""
        ...

    async def get(self, instance: str) -> Instance | None:
        """Return one instance."""
        ...

    async def failover_groups(self, instances: Sequence[Instance]) -> Sequence[FailoverGroup]:
        """Return the groups seen from the group and region of each instance, each id once."""
        ...

    async def keys(self, instance: str) -> Sequence[InstanceKey]:
        """Return the key rows."""
        ...

    async def protector(self, instance: str) -> Protector:
        """Return the current protector; thumbprint read from the key row where absent."""
        ...

    async def databases(self, instance: str) -> Sequence[Database]:
        """Return all databases, inaccessible ones included, each once."""
        ...

    async def busy(self, instance: str) -> Sequence[str]:
        """Return the names of operations in progress on the instance."""
        ...

    async def start_validate(self, instance: str, kid: str) -> Operation | None:
        """Ask the instance itself whether it can use the key; None where it answered at once."""
        ...

    async def put_key(self, instance: str, key_name: str, kid: str) -> Operation:
        """Add a key row."""
        ...

    async def put_protector(self, instance: str, key_name: str) -> Operation:
        """Make that key row the protector."""
        ...

    async def start_reevaluate(self, instance: str) -> Operation | None:
        """Ask the instance to look at its inaccessible databases again."""
        ...


class Storage(Protocol):
    """Reading backup containers, and making tokens for them."""

    async def list_blobs(self, target: StorageTarget, prefix: str) -> Sequence[BlobItem]:
        """Return the blobs under `prefix`, ordered by name; with the operator's own rights."""
        ...

    async def list_folders(self, target: StorageTarget, prefix: str) -> Sequence[str]:
        """Return the top-level folder names that start with `prefix`, ordered by name."""
        ...

    async def delegated_sas(self, container_url: str, rights: str, now_ms: int) -> Secret:
        """Return a SAS of the container, made with the operator's own sign-in.

        Parameters:
            rights: letters, as in `crdwl`.
            now_ms: the engine's time; the token is valid from then on for a day.
        """
        ...


class DatabaseRows(Protocol):
    """Reading a known row through the database engine itself."""

    async def canary(self, fqdn: str, database: str) -> str | None:
        """Return a digest of the canary rows; None where this session has no way to read rows.

        Raises:
            AzureError: the database refused.
        """
        ...


class Operations(Protocol):
    """Polling, re-attachable from the journal alone."""

    async def poll(self, operation: Operation) -> OperationStatus:
        """Ask once where the operation stands.

        Raises:
            GuardError: the status URL is on another host than the service.
        """
        ...


class Cloud(Protocol):
    """Everything an action or observation may reach."""

    identity: Identity
    hsms: ManagedHsms
    subscription: Subscription
    sql: SqlInstances
    storage: Storage
    rows: DatabaseRows
    operations: Operations

    def hsm(self, uri: str) -> HsmData:
        """Return the data plane of the HSM at `uri` (`https://NAME.managedhsm…/`)."""
        ...
