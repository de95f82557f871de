"""The error codes of SQL's resource provider: status and text in one table.

A failure may reach the client at once, as an HTTP status, or later inside the body of
a poll that is itself a 200. Both use the same code and text, so both come from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from drengine.lab.wire import LabFault

_STATUS: Final = {
    "OperationIdNotFound": 404,
    "ResourceNotFound": 404,
    "ServerKeyNotFound": 404,
    "InstanceFailoverGroupDoesNotExist": 404,
    "AzureKeyVaultKeyInUse": 409,
    "AzureKeyVaultKeyNameNotFound": 409,
    "ConflictingServerOperation": 409,
    "EncryptionProtectorChangeInProgress": 409,
    "GeoDrSecondaryInstanceNotEmpty": 409,
    "InstanceFailoverGroupAlreadyExists": 409,
    "InstanceFailoverGroupBusy": 409,
    "ManagedInstanceContainsInaccessibleDatabases": 409,
    "ServerKeyNameAlreadyExists": 409,
    "ServerKeyUriAlreadyExists": 409,
    "AzureKeyVaultConnectionFailed": 503,
    "AzureKeyVaultGenericConnectionError": 503,
}

_TEXT: Final = {
    "AkvEndpointNotReachableFromNode": "The host of the key '{uri}' cannot be reached from the "
    "network of the instance.",
    "AkvHostNotResolvingFromNode": "The name of the host of the key '{uri}' does not resolve in "
    "the network of the instance.",
    "AkvKeyOperationNotAllowedByFirewall": "The firewall of the host of the key '{uri}' refused "
    "the instance.",
    "AkvKeyAccessDenied": "Access to the key '{uri}' was denied.",
    "AkvKeyDNS": "The name of the host of the key '{uri}' could not be resolved.",
    "AkvKeyDeleted": "The key '{uri}' or the HSM that holds it is deleted or does not exist.",
    "AkvKeyOperationNotAllowed": "The key '{uri}' does not permit the operation '{operation}'.",
    "AkvKeyTimeout": "The host of the key '{uri}' did not answer in time.",
    "AzureKeyVaultConnectionFailed": "The host of the key '{uri}' cannot serve requests now.",
    "AzureKeyVaultInvalidExpirationDate": "The key '{uri}' is outside its activation or "
    "expiration date.",
    "AzureKeyVaultInvalidUri": "The key identifier '{uri}' is not valid.",
    "AzureKeyVaultKeyDisabled": "The key '{uri}' is disabled.",
    "AzureKeyVaultKeyInUse": "The key '{name}' is currently in use by the server '{server}'.",
    "AzureKeyVaultKeyNameNotFound": "The key '{uri}' was not found.",
    "AzureKeyVaultKeyThumbprintIsDifferent": "The key '{uri}' now has other key material than "
    "when it was linked.",
    "AzureKeyVaultKeyUsedOnGeoPrimary": "The key '{name}' has the key material that the "
    "geo-primary server '{server}' uses as its encryption protector.",
    "AzureKeyVaultMissingPermissions": "The server '{server}' requires the following permissions: "
    "'Get, WrapKey, UnwrapKey' on '{uri}'. Please grant the missing permissions to the service "
    "principal with ID '{principal}'.",
    "AzureKeyVaultNoServerIdentity": "The server identity is not correctly configured on server "
    "'{server}'.",
    "AzureKeyVaultRsaKeyNotSupported": "The key '{uri}' is not supported. Only an RSA or RSA-HSM "
    "key of 2048 or 3072 bits can be used.",
    "CMKOperationNotAllowed": "The operation is not allowed because the server '{server}' has no "
    "access to its encryption protector at the moment.",
    "CloudLifterFogInaccessibleDbRoleMismatch": "The role of the instance '{server}' changed from "
    "{before} to {after} while the database '{database}' was in the inaccessible state. Please "
    "restore the original database role by executing geo-failover and try again.",
    "EncryptionProtectorChangeInProgress": "The encryption protector of the server '{server}' is "
    "being changed by another operation.",
    "GeoDrSecondaryInstanceNotEmpty": "The secondary instance '{server}' holds user databases.",
    "InstanceFailoverGroupAlreadyExists": "A failover group of the instance '{server}' exists.",
    "InstanceFailoverGroupBusy": "The failover group '{name}' is busy with another operation.",
    "InstanceFailoverGroupDoesNotExist": "The failover group '{name}' does not exist in "
    "'{location}'.",
    "InstanceFailoverGroupFailoverRequestOnPrimary": "The failover of the group '{name}' must be "
    "requested on its secondary.",
    "InstanceFailoverGroupCreateOrUpdateRequestUnsupportedPairCount": "A failover group takes "
    "exactly one pair of managed instances.",
    "InstanceFailoverGroupUpdateOrDeleteRequestOnSecondary": "The group '{name}' must be changed "
    "or deleted on its primary.",
    "InvalidEncryptionProtectorName": "The encryption protector's name is not valid.",
    "InvalidKeyName": "The server key name '{name}' does not fit the key identifier; it must be "
    "'{expected}'.",
    "InvalidKeyType": "The server key type '{type}' is not valid.",
    "InvalidKeyUpsertRequest": "The request to create or update a server key is not valid.",
    "InvalidUpsertKeyType": "The server key type '{type}' cannot be created.",
    "ManagedInstanceContainsInaccessibleDatabases": "The managed instance '{server}' contains "
    "inaccessible databases: {databases}.",
    "ManagedInstanceNoConditionToMakeDatabaseAccessible": "The database '{database}' cannot be "
    "made accessible: {reason}",
    "OperationIdNotFound": "The operation with Id '{name}' does not exist.",
    "ResourceNotFound": "The requested resource of type '{type}' with name '{name}' was not found.",
    "PlannedFailoverTimedOut": "The planned failover of the group '{name}' timed out: the "
    "instance '{server}' could not be synchronised.",
    "SameKeyMaterialNotFoundOnRemoteServer": "All servers linked by Geo replication should have "
    "the same key material as the encryption protector of the primary server. Please add the key "
    "'{uri}' with the same key material to the secondary server '{server}'.",
    "SameKeyUriNotFoundOnRemoteServer": "All servers linked by Geo replication should have the "
    "same key URI as the encryption protector of the primary server when auto rotation is on. "
    "Please add the key '{uri}' to the secondary server '{server}'.",
    "SecurityAzureKeyVaultUrlNullOrEmpty": "The key identifier is missing or empty.",
    "SecurityInvalidAzureKeyVaultRecoveryLevel": "The key '{uri}' has the recovery level "
    "'{level}'. Enable soft delete and purge protection on the vault or HSM.",
    "ServerKeyNameAlreadyExists": "A server key named '{name}' with another identifier exists.",
    "ServerKeyNotFound": "The server key '{name}' was not found on the server '{server}'.",
    "ServerKeyUriAlreadyExists": "The key identifier '{uri}' is linked under another name.",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why SQL refuses, in a form that goes into an answer or a poll body."""

    code: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Return the error object of a poll body."""
        return {"code": self.code, "message": self.message}

    def to_fault(self) -> LabFault:
        """Return the refusal as an immediate answer."""
        return LabFault(status_of(self.code), self.code, self.message)


def status_of(code: str) -> int:
    """Return the HTTP status that a code has when it is an immediate answer."""
    return _STATUS.get(code, 400)


def refusal(code: str, **values: str) -> Refusal:
    """Return a refusal; every placeholder of the code's text must be given."""
    return Refusal(code, _TEXT[code].format(**values))


def fault(code: str, **values: str) -> LabFault:
    """Return a refusal as an immediate answer."""
    return refusal(code, **values).to_fault()
