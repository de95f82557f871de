"""What an estate is made of: names, places and sizes, as plain values.

The default is one HSM, one failover group of two instances, and one instance alone.
Every estate of the lab has names that real Azure cannot have: a HSM with `--` and a
storage account with `-`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One key of the source HSM."""

    name: str
    kty: str = "RSA-HSM"
    size: int = 2048
    """Bits of an RSA or octet key; without meaning for elliptic curves."""
    crv: str = ""
    versions: int = 1


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One managed instance that stands alone, or the primary of a failover group."""

    name: str
    location: str
    databases: tuple[str, ...]
    key: str
    """Name of the source HSM's key that is the encryption protector; empty: service-managed."""
    resource_group: str = ""
    """Of an instance that stands alone; empty means the estate's."""


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """One failover group: the primary holds databases, the secondary gets replicas."""

    name: str
    primary: InstanceSpec
    secondary_name: str
    secondary_location: str


@dataclass(frozen=True, slots=True)
class EstateSpec:
    """Everything that `drengine.lab.estate.build` makes."""

    resource_group: str = "contoso-dr"
    source_hsm: str = "contoso--hsm"
    location: str = "westeurope"
    storage_account: str = "contoso-backups"
    container: str = "hsm-backups"
    identity: str = "contoso-dr-identity"
    custodians: int = 3
    required: int = 2
    purge_protection: bool = False
    """Of the source HSM."""
    distinct_materials: int = 0
    """So many different RSA keys for each size; 0 gives every version its own."""
    keys: tuple[KeySpec, ...] = (
        KeySpec("sqlmi-tde", versions=3),
        KeySpec("sqlmi-tde-hr", size=3072),
        KeySpec("app-wrap"),
        KeySpec("doc-sign", kty="EC-HSM", crv="P-256"),
    )
    groups: tuple[GroupSpec, ...] = (
        GroupSpec(
            name="contoso-fog",
            primary=InstanceSpec("sqlmi-a", "westeurope", ("orders", "payments"), "sqlmi-tde"),
            secondary_name="sqlmi-b",
            secondary_location="northeurope",
        ),
    )
    standalone: tuple[InstanceSpec, ...] = field(
        default=(InstanceSpec("sqlmi-c", "westeurope", ("hr", "archive"), "sqlmi-tde-hr"),)
    )

    def to_document(self) -> dict[str, Any]:
        """Return the specification as a JSON document."""
        return asdict(self)


def from_document(document: dict[str, Any]) -> EstateSpec:
    """Return the specification that `to_document` wrote; missing parts are the defaults.

    A member `scale` with `keys`, `instances` and `databases` stands for an estate of that
    size, whose keys repeat their material.

    Raises:
        TypeError: a part has a name that does not exist.
        ValueError: the size is beyond what a lab takes.
    """
    parts = dict(document)
    if "scale" in parts:
        return replace(scaled(**parts.pop("scale")), **parts)
    if "keys" in parts:
        parts["keys"] = tuple(KeySpec(**key) for key in parts["keys"])
    if "groups" in parts:
        parts["groups"] = tuple(_group(group) for group in parts["groups"])
    if "standalone" in parts:
        parts["standalone"] = tuple(_instance(one) for one in parts["standalone"])
    return EstateSpec(**parts)


MOST_KEYS: Final = 5000
MOST_INSTANCES: Final = 200
MOST_DATABASES: Final = 5000


def scaled(*, keys: int = 50, instances: int = 20, databases: int = 100) -> EstateSpec:
    """Return an estate of a size: pairs of instances in failover groups, one key a group.

    Parameters:
        keys: of the source HSM.
        instances: an odd one stands alone.
        databases: spread evenly over the instances that are no secondary.

    Raises:
        ValueError: too many, or not a database for each primary and alone instance.
    """
    for count, most in (
        (keys, MOST_KEYS),
        (instances, MOST_INSTANCES),
        (databases, MOST_DATABASES),
    ):
        if not 1 <= count <= most:
            raise ValueError(f"an estate takes 1 to {most} of these, not {count}")
    holders = (instances + 1) // 2
    if databases < holders or keys < holders:
        raise ValueError(f"{instances} instances need {holders} databases and keys at least")
    names = [f"key-{number:04}" for number in range(keys)]
    primaries = [
        InstanceSpec(
            f"sqlmi-{number:03}-a",
            "westeurope",
            tuple(f"db-{one:04}" for one in range(number, databases, holders)),
            names[number],
        )
        for number in range(holders)
    ]
    pairs = primaries[: instances // 2]
    return EstateSpec(
        distinct_materials=8,
        keys=tuple(KeySpec(name) for name in names),
        groups=tuple(
            GroupSpec(f"fog-{number:03}", one, f"sqlmi-{number:03}-b", "northeurope")
            for number, one in enumerate(pairs)
        ),
        standalone=tuple(primaries[len(pairs) :]),
    )


def _instance(document: dict[str, Any]) -> InstanceSpec:
    return InstanceSpec(**{**document, "databases": tuple(document["databases"])})


def _group(document: dict[str, Any]) -> GroupSpec:
    return GroupSpec(**{**document, "primary": _instance(document["primary"])})
