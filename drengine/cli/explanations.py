"""What codes mean: exit codes, drengine's own, and Azure's that a recovery meets.

Tables only. Each text says the cause, what is certain, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

EXIT_CODES: Final[Mapping[str, str]] = {
    "0": "Done; for a run: recovered, and every objective was met.",
    "1": "An internal error: a bug in drengine. The traceback is in the file it names.",
    "2": "The command line does not fit.",
    "3": "A runbook, an input or a file is bad; nothing was changed.",
    "4": "A step failed, or the run was cancelled. What was done is recorded; a failed run "
    "can be resumed.",
    "5": "A person, a delivery or a secret is waited for, or the run is paused; a clean stop.",
    "6": "The plan is stale: it, or a file it names, changed since it was made.",
    "7": "Another process or host holds the run, or another run holds the target.",
    "8": "Refused by a guard, a rule or a gate; nothing was sent. 'approval import', and 'skip' or "
    "'mark-done' of a gate or a delivery: it will not count; it was handed in, and is noted.",
    "9": "Evidence or a journal does not verify.",
    "10": "The run finished, but an objective or a criterion was missed.",
    "11": "The run was rolled back.",
    "12": "An outcome is unknown: a request may have had its effect. Look, then 'resolve'.",
    "13": "Not signed in, or a right is missing.",
    "14": "The journal is damaged or its store failed.",
    "15": "The quorum ceremony refused.",
    "130": "Interrupted by Ctrl-C; what was done is recorded, 'resume' goes on.",
    "143": "Interrupted by SIGTERM; what was done is recorded, 'resume' goes on.",
}

_CERTAIN: Final = "Everything up to it is in the journal. "

CODES: Final[Mapping[str, tuple[str, str]]] = {
    "DR-U001": ("The command line does not fit", "See the command's --help. Nothing was done."),
    "DR-I001": ("An input is bad", "The message names it. Nothing was changed."),
    "DR-I010": (
        "A runbook is not one",
        (
            "The message has file, line and column. 'drengine validate FILE' tells everything that "
            "is wrong at once."
        ),
    ),
    "DR-I011": (
        "An expression cannot be evaluated",
        (
            "A ${...} names something that is not there, or mixes types. The message has the place "
            "inside the expression."
        ),
    ),
    "DR-I020": (
        "A file cannot be used",
        "It cannot be read, is too large, or is not what it must be. Nothing was changed.",
    ),
    "DR-I030": ("A limit is exceeded", "The input is larger or deeper than drengine reads."),
    "DR-S001": ("A step failed", _CERTAIN + "Remove the cause; 'drengine resume' goes on."),
    "DR-S002": (
        "An operation takes longer than its limit",
        "Azure still works on it. 'drengine resume' re-attaches to it; nothing is sent again.",
    ),
    "DR-S003": (
        "What was read back is not what must be",
        (
            "The request was accepted, but the verification does not hold. The findings say what "
            "differs. 'drengine resume' verifies again."
        ),
    ),
    "DR-S004": (
        "It could not be told whether a step is done",
        (
            "Every look failed within the step's time. Nothing was sent. 'drengine resume' "
            "looks again."
        ),
    ),
    "DR-S005": (
        "What was undone is still there",
        (
            "The service took the request, and half an hour of looks still found it. 'drengine "
            "resume' asks again; where something holds it, remove that first."
        ),
    ),
    "DR-S006": (
        "A child run ended without having done its part",
        (
            "It was cancelled or rolled back. The step is not done: do by hand what is left of it, "
            "then 'drengine skip' with a reason or 'drengine mark-done' with evidence; both stand "
            "in the report."
        ),
    ),
    "DR-W001": (
        "Somebody or something is waited for",
        (
            "'drengine status' says what and with which command it is given. Nothing is lost "
            "by waiting."
        ),
    ),
    "DR-P001": (
        "The plan is stale",
        (
            "The plan file, or an input file that it names by digest, is not what it "
            "was. Bring the "
            "file back, or make a new plan. Nothing was sent."
        ),
    ),
    "DR-L001": (
        "Held by somebody else",
        (
            "A living process drives the run, or an unfinished run has claimed the target. The "
            "message names it. 'drengine status RUN' shows it; a run is given up with "
            "'drengine cancel'."
        ),
    ),
    "DR-G001": (
        "Refused by a guard",
        (
            "A rule does not hold. The message has what was found and what was expected; the step "
            "sent nothing. 'drengine explain RULE' has the rule's source and advice."
        ),
    ),
    "DR-G002": (
        "A person must look",
        "What the step would make is there already, but not as this run made it. Nothing was sent.",
    ),
    "DR-G010": (
        "Lab and cloud were about to be mixed up",
        (
            "An answer, a plan or a session belongs to the other one. Nothing was sent. "
            "Work on the "
            "lab with 'drengine lab exec -- ...', on Azure with DRENGINE_LAB unset."
        ),
    ),
    "DR-G020": (
        "A gate was rejected",
        (
            "A person refused what the gate asked; the reason is in the journal. 'drengine resume' "
            "asks again."
        ),
    ),
    "DR-V001": (
        "Evidence does not verify",
        (
            "Something in the folder is not what was written. The problems are listed. Take the "
            "folder from its source again; do not rely on this copy."
        ),
    ),
    "DR-O001": (
        "An outcome is unknown",
        (
            "A request was sent, its answer was lost, and looking did not tell whether it had its "
            "effect; a repeat could destroy, so there is none. Look in Azure by hand (the step's "
            "manual commands are in the journal), then 'drengine resolve RUN STEP --found' or "
            "'--absent', with a reason."
        ),
    ),
    "DR-A001": ("Azure answered with an error", "The message has Azure's own words and code."),
    "DR-A010": (
        "Not signed in, or a right is missing",
        (
            "'az login', or grant the right that the message names. Role grants need minutes to "
            "reach an HSM or an instance. Where the right is there, a firewall or a private "
            "endpoint may refuse: the message names the host. 'drengine plan' asks for what a run "
            "needs, and changes nothing."
        ),
    ),
    "DR-A020": ("Azure asked to slow down", "The request had no effect. It is tried again later."),
    "DR-A030": (
        "An operation failed in Azure",
        "It ran and ended in failure; the code is Azure's own: 'drengine explain CODE'.",
    ),
    "DR-C001": (
        "The ceremony refuses",
        "The message says why. No key and no share left a process.",
    ),
    "DR-C002": (
        "The quorum does not fit",
        "Too few keys, one custodian twice, or keys of another domain. The message counts them.",
    ),
    "DR-C003": (
        "A custodian's key does not fit",
        (
            "The message names the key file and the thumbprint of its certificate. The "
            "others may be "
            "right; give this custodian's real key."
        ),
    ),
    "DR-C004": (
        "The security-domain file is bad",
        (
            "It is damaged, was tampered with, or is something else. Take another copy; "
            "each has the "
            "same SHA-256."
        ),
    ),
    "DR-J001": ("The journal's store cannot be used", "The message says why, and which folder."),
    "DR-J002": (
        "The journal is damaged",
        (
            "A record does not follow from the one before it. It is refused, never "
            "repaired. Take the "
            "home or the export from another copy; 'drengine journal verify' names the record."
        ),
    ),
    "DR-J003": (
        "The store failed",
        (
            "A write or sync failed, so it is not known whether the last record is durable. The "
            "process ended on purpose; see to the disk, then 'drengine resume' reads it back."
        ),
    ),
    "DR-J004": (
        "Another process took the run over",
        "This process may not append any more and has ended. Nothing was written by it since.",
    ),
    "DR-J005": (
        "Another host has the run",
        (
            "It was handed over ('drengine journal export --hand-over'), or another host imported "
            "it with a take-over and says so in the target HSM's tag 'drengine-holder'. This host "
            "sends nothing for it any more. Go on where the message says; if nobody ever took "
            "it there, 'drengine take-over RUN --reason' takes it back."
        ),
    ),
    "DR-J006": (
        "What should be recorded fits into no record",
        (
            "It is longer than a MiB or has no canonical form. Nothing was written; the journal "
            "is whole."
        ),
    ),
    "DR-X001": (
        "A bug in drengine",
        (
            "The traceback is in the file that the message names, with secrets struck "
            "out. What was "
            "recorded before stays valid."
        ),
    ),
}

_RBAC: Final = (
    "An instance's identity may not use the key",
    (
        "Grants need up to ten minutes to arrive, so the engine tries again before it fails. Then: "
        "the identity needs 'Managed HSM Crypto Service Encryption User' on the key."
    ),
)
_NETWORK: Final = (
    "An instance cannot reach the HSM",
    (
        "Name resolution, routes, the HSM's firewall or private endpoints. The instance asks, not "
        "this machine: test from its subnet."
    ),
)
_KEY: Final = (
    "The key cannot be a protector as it is",
    (
        "It is disabled, expired, of a size that SQL does not take (RSA 2048 or 3072), "
        "an old version, "
        "or its HSM lacks purge protection."
    ),
)
_MISSING: Final = (
    "The key or version is not there",
    "It was not restored, or another version is meant. Compare with the inventory.",
)
_GEO: Final = (
    "The partner of a failover group lacks the key",
    "Both members need a key of the same material before either switches: secondary first.",
)
_BUSY: Final = (
    "Something else is changing the same thing",
    "The engine waits and reads the state again; nothing is to be done.",
)

SERVICE_CODES: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(
        (
            "AzureKeyVaultNoServerIdentity",
            "AzureKeyVaultMissingPermissions",
            "UmiMissingAkvPermissions",
            "AkvKeyAccessDenied",
            "AkvKeyAccessGeneral403",
            "AkvKeyOperationNotAllowed",
            "AkvKeyOperationNotAllowedByRBAC",
        ),
        _RBAC,
    ),
    **dict.fromkeys(
        (
            "AkvKeyDNS",
            "AkvKeyTimeout",
            "AkvHostNotResolvingFromNode",
            "AkvEndpointNotReachableFromNode",
            "AkvKeyOperationNotAllowedByFirewall",
            "AzureKeyVaultConnectionFailed",
            "AzureKeyVaultGenericConnectionError",
        ),
        _NETWORK,
    ),
    **dict.fromkeys(
        (
            "AzureKeyVaultKeyDisabled",
            "AkvKeyDisabled",
            "AzureKeyVaultInvalidExpirationDate",
            "AzureKeyVaultRsaKeyNotSupported",
            "SecurityInvalidAzureKeyVaultRecoveryLevel",
            "OldGenerationOfAKVKeyBeingUsedError",
        ),
        _KEY,
    ),
    **dict.fromkeys(
        (
            "AkvKeyDeleted",
            "AzureKeyVaultKeyNameNotFound",
            "ServerKeyNotFound",
            "ServerKeyDoesNotExists",
            "MissingKeyVaultUriForRestore",
        ),
        _MISSING,
    ),
    **dict.fromkeys(
        (
            "SameKeyMaterialNotFoundOnRemoteServer",
            "SameKeyUriNotFoundOnRemoteServer",
            "KeyMaterialNotFoundOnRemoteServer",
            "AzureKeyVaultKeyUsedOnGeoPrimary",
            "SecurityAzureKeyVaultGeoChainError",
        ),
        _GEO,
    ),
    **dict.fromkeys(
        (
            "EncryptionProtectorChangeInProgress",
            "AzureKeyVaultKeyNameCurrentlyInUse",
            "ConflictingServerOperation",
            "OperationInterrupted",
        ),
        _BUSY,
    ),
    "AzureKeyVaultKeyThumbprintIsDifferent": (
        "The key on the new HSM is another key",
        (
            "Name and version agree, the material does not. Stop: this is not the key "
            "that protects "
            "the databases. Check which backup was restored."
        ),
    ),
    "CMKOperationNotAllowed": (
        "The instance has no access to its key at the moment",
        "Let it look again first (reevaluate), then set the protector; the runbook does both.",
    ),
    "ManagedInstanceContainsInaccessibleDatabases": (
        "A failover with inaccessible databases is refused",
        "Repair access to the key first, on the member that is primary now.",
    ),
    "CloudLifterFogInaccessibleDbRoleMismatch": (
        "The roles changed while a database was inaccessible",
        "Fail back so that the roles are as they were, then let the database look again.",
    ),
    "RoleAssignmentExists": ("The grant is there already", "That counts as done."),
}
