"""The lab's settings: durations, and every choice that Microsoft's documents leave open.

Durations are in virtual seconds. A field marked *open* stands for something that is not
known of the real service; a careful client must be right under each of its values.
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Settings:
    """One immutable set of choices; `settings.json` in the lab home holds the differences."""

    # Managed HSM: how long things take (budgets from recorded runs).
    create_hsm: float = 900
    """Provisioning a Managed HSM."""
    start_service: float = 380
    """After this, a HSM being provisioned reports NotActivated."""
    sd_upload: float = 130
    """Restoring a security domain after its upload."""
    sd_download: float = 85
    """Confirming the first download of a security domain."""
    backup: float = 10
    """A full backup."""
    restore: float = 30
    """A full restore."""
    selective_restore: float = 23
    """Restoring one key from a full backup."""
    update_hsm: float = 240
    """Changing a HSM's identity, network rules or tags."""
    delete_hsm: float = 120
    """Soft-deleting a HSM."""
    recover_hsm: float = 230
    """Recovering a soft-deleted HSM."""
    purge_hsm: float = 180
    """Purging a soft-deleted HSM."""
    add_region: float = 1420
    """Extending a HSM to a second region."""
    remove_region: float = 1510
    """Removing the second region of a HSM."""
    replication_lag: float = 360
    """After this, a key or role written in one region of a HSM is known in the other."""
    approve_connection: float = 48
    """Approving, rejecting or deleting a private endpoint connection."""
    network_change: float = 12
    """Creating or deleting a private endpoint."""
    propagation: float = 0
    """After this, a new role assignment of the data plane takes effect."""

    # SQL Managed Instance: how long things take.
    mi_key: float = 2
    """Linking or unlinking a key."""
    mi_protector: float = 107
    """Changing the encryption protector."""
    mi_update: float = 60
    """Other changes of a managed instance."""
    revalidate: float = 5
    """Revalidating the encryption protector."""
    reevaluate: float = 60
    """Re-evaluating an inaccessible database."""
    fog_failover: float = 31
    """A planned failover of a failover group."""
    fog_update: float = 20
    """Creating, changing or deleting a failover group."""
    check_cycle: float = 600
    """How often an instance checks that it can use its protector."""
    autoheal_window: float = 1800
    """A database that was inaccessible no longer than this heals by itself."""
    heal_within: float = 600
    """How long healing takes at most."""
    auto_rotation_check: float = 86_400
    """How often an instance with automatic rotation looks for a newer version of its key."""

    # Where the operator is.
    client_address: str = "203.0.113.10"
    """The public address that firewalls see of clients outside Azure."""
    client_region: str = ""
    """The region nearest to those clients; empty means a HSM's primary region."""

    # The wire.
    retry_after_ms: int | None = None
    """Sent as `retry-after-ms` on answers of long operations; None sends no header."""
    retry_after_seconds: int | None = None
    """Sent as `Retry-After` where `retry_after_ms` is None; None sends no header."""
    effect_visible_after_ms: int = 0
    """A created resource answers 404 for so many virtual milliseconds after its 202."""
    token_lifetime: int = 3600
    """Lifetime of a bearer token in wall seconds."""

    # Open questions: Managed HSM.
    transfer_key_on_reget: Literal["same", "new"] = "same"
    """*open* Whether reading the exchange key again makes a new one."""
    upload_on_active: Literal[409, 400] = 409
    """*open* Status of a security-domain upload to an active HSM."""
    restore_requires_backup: bool = True
    """*open* Whether a restore needs a completed backup of the destination before it."""
    restore_without_backup: Literal["refuse", "fail"] = "refuse"
    """*open* A missing destination backup: 400 at once, or a job that ends Failed."""
    restore_busy_status: Literal[409, 429] = 409
    """*open* Status of a second backup or restore while one runs."""
    restoring_refusal: Literal[503, 403] = 503
    """*open* Status of data-plane calls while a restore runs."""
    not_activated_refusal: Literal[403, 503] = 403
    """*open* Status of data-plane calls before activation."""
    restore_failed_error: Literal["object", "null"] = "object"
    """*open* Whether a failed job carries an error object (the old service sent null)."""
    put_while_busy: Literal[409, 202] = 409
    """*open* Changing a HSM that is being changed: refused, or taken as the same operation."""
    unknown_hsm: Literal["not-found", "no-name"] = "not-found"
    """A HSM name that does not exist: 404, or a name that does not resolve (proxy: 502)."""
    backup_age_rule: Literal["any", "within-30-minutes", "at-least-30-minutes"] = "any"
    """*open* How old the destination's backup may, or must, be at a restore."""
    writes_when_primary_lost: Literal["accept", "refuse"] = "accept"
    """*open* Whether a second region takes key writes while the primary region is lost."""
    hsm_quota: int = 5
    """HSMs in one region of the subscription; creating one more is refused."""
    quota_counts_deleted: bool = False
    """*open* Whether soft-deleted HSMs count for that quota too."""
    enforce_firewall: bool = True
    """Whether networkAcls and publicNetworkAccess of HSMs and vaults are enforced."""
    enforce_roles: bool = True
    """Whether the data plane enforces its role assignments."""
    operator_lacks: str = ""
    """Actions of Resource Manager that the operator may not do, comma-separated; `*` stands for
    any text: `Microsoft.Sql/managedInstances/keys/write`."""
    enforce_recovery_level: bool = True
    """Whether SQL refuses a key whose HSM lacks purge protection."""

    # Open questions: SQL Managed Instance.
    protector_put_when_inaccessible: Literal["accept", "CMKOperationNotAllowed"] = "accept"
    """*open* Setting the protector of an instance with inaccessible databases."""
    late_heal_drops: Literal["nothing", "group-and-tags", "group-tags-and-history"] = "nothing"
    """*open* What an instance has lost when a database heals after the window; with `history` it
    cannot be restored to a point in time before that (`earliestRestorePoint`)."""
    reevaluate_needed_after_protector: bool = True
    """*open* Whether a late heal needs an explicit re-evaluation after the protector changed."""
    fog_forced_with_inaccessible: Literal["accept", "refuse"] = "accept"
    """*open* A forced failover from an instance with inaccessible databases."""


def fast_settings(base: Settings | None = None) -> Settings:
    """Return the settings of the fast profile: clients poll every 40 milliseconds."""
    return replace(base or Settings(), retry_after_ms=40)


def load_settings(file: Path) -> Settings:
    """Read the settings; a missing file means the defaults.

    Raises:
        ValueError: the file names a setting that does not exist.
    """
    if not file.exists():
        return Settings()
    return from_document(json.loads(file.read_bytes()))


def from_document(document: dict[str, Any]) -> Settings:
    """Return the settings that differ from the defaults as `document` says.

    Raises:
        ValueError: it names a setting that does not exist, or a value that it cannot have.
    """
    known = {field.name for field in fields(Settings)}
    unknown = sorted(set(document) - known)
    if unknown:
        raise ValueError(f"unknown lab settings: {', '.join(unknown)}")
    for name, value in document.items():
        wrong = misfit(name, value)
        if wrong:
            raise ValueError(f"the lab setting {name}: {wrong.removesuffix('.')}")
    return Settings(**document)


def misfit(name: str, value: object) -> str:
    """Return why a setting cannot have a value, empty where it can."""
    if name not in _TYPES:
        near = difflib.get_close_matches(name, _TYPES, 1)
        return "there is no such setting" + (f"; did you mean {near[0]}?" if near else ".")
    wanted = _TYPES[name]
    if get_origin(wanted) is Literal:
        choices = get_args(wanted)
        fits = any(value == one and type(value) is type(one) for one in choices)
        shown = ", ".join(map(repr, choices))
        return "" if fits else f"expected one of {shown}, found {value!r}."
    if wanted in {float, int} or wanted == int | None:
        absent = value is None and wanted == int | None
        number = isinstance(value, int) or (wanted is float and isinstance(value, float))
        fits = absent or (number and not isinstance(value, bool) and _is_length(value))
        return "" if fits else f"expected a number, zero or more, found {value!r}."
    expected = {bool: "true or false", str: "text"}[wanted]
    return "" if isinstance(value, wanted) else f"expected {expected}, found {value!r}."


def _is_length(value: Any) -> bool:
    return bool(0 <= value < float("inf"))


_TYPES: Final = get_type_hints(Settings)


def save_settings(file: Path, settings: Settings) -> None:
    """Write the settings as a whole, by replacing the file."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(settings), indent=2) + "\n")
    temporary.replace(file)
