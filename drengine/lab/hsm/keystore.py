"""Keys at rest: one document per key with all its versions, and their wire form.

A version keeps its private key as PKCS#8 (or raw bytes for `oct-HSM`) and, apart from
it, the public part as it goes over the wire, so that listing thousands of keys loads no
key. Version ids, times and tags survive backup and restore; host names do not belong
to a key and are put in when it is shown.
"""

from __future__ import annotations

import base64
import secrets
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from drengine.lab.hsm import state
from drengine.lab.hsm.jose import b64
from drengine.lab.wire import LabFault

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from drengine.lab.store import Tx
    from drengine.lab.world import Lab

KEY: Final = "hsm.key"
DELETED_KEY: Final = "hsm.deletedkey"
MAX_KEYS: Final = 5000
MAX_VERSIONS: Final = 100
LONGEST_RETENTION_DAYS: Final = 90
RSA_SIZES: Final = (2048, 3072, 4096)
OCT_SIZES: Final = (128, 192, 256)
CURVES: Final[dict[str, type[ec.EllipticCurve]]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "P-256K": ec.SECP256K1,
}
CURVE_NAMES: Final = {curve().name: name for name, curve in CURVES.items()}
DEFAULT_OPS: Final = {
    "RSA-HSM": ["wrapKey", "decrypt", "encrypt", "unwrapKey", "sign", "verify"],
    "EC-HSM": ["sign", "verify"],
    "oct-HSM": ["encrypt", "decrypt", "wrapKey", "unwrapKey"],
}
KINDS: Final = {
    "RSA": "RSA-HSM",
    "RSA-HSM": "RSA-HSM",
    "EC": "EC-HSM",
    "EC-HSM": "EC-HSM",
    "oct": "oct-HSM",
    "oct-HSM": "oct-HSM",
}
"""The service makes every key a HSM key."""

Version: TypeAlias = dict[str, Any]
KeyDocument: TypeAlias = dict[str, Any]


def key_id(hsm: str, name: str) -> str:
    """Return the document key of a HSM's key."""
    return f"{hsm}/{name.lower()}"


def generate_material(lab: Lab, kty: str, size: int, crv: str) -> bytes:
    """Return fresh private key material.

    Raises:
        LabFault: the size or curve does not exist.
        NotReadyYet: the key is to be made outside the transaction.
    """
    if kty == "RSA-HSM":
        if size not in RSA_SIZES:
            raise LabFault(400, "BadParameter", f"RSA keys have {RSA_SIZES} bits, not {size}.")
        return lab.keys.take(size)
    if kty == "EC-HSM":
        if crv not in CURVES:
            raise LabFault(400, "BadParameter", f"The curve '{crv}' is not supported.")
        return private_der(ec.generate_private_key(CURVES[crv]()))
    if size not in OCT_SIZES:
        raise LabFault(400, "BadParameter", f"oct keys have {OCT_SIZES} bits, not {size}.")
    return secrets.token_bytes(size // 8)


def private_der(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """Return the key as unencrypted PKCS#8."""
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@lru_cache(maxsize=4096)
def load_private(material: str) -> PrivateKeyTypes:
    """Return the private key of a stored version's `material`."""
    return serialization.load_der_private_key(
        base64.b64decode(material), None, unsafe_skip_rsa_key_validation=True
    )


def new_version(
    kty: str, material: bytes, now_ms: int, *, body: dict[str, Any] | None = None
) -> Version:
    """Return a version document around private key material.

    Parameters:
        body: the request that makes it: key_ops, attributes, tags.
    """
    wanted = body or {}
    stored = base64.b64encode(material).decode()
    seconds = now_ms // 1000
    attributes = wanted.get("attributes") or {}
    return {
        "version": secrets.token_hex(16),
        "kty": kty,
        "material": stored,
        "public": {} if kty == "oct-HSM" else public_part(stored),
        "ops": list(wanted.get("key_ops") or DEFAULT_OPS[kty]),
        "attributes": {
            "created": seconds,
            "updated": seconds,
            "enabled": attributes.get("enabled", True) is not False,
            **{name: int(attributes[name]) for name in ("nbf", "exp") if attributes.get(name)},
        },
        "tags": wanted.get("tags") or {},
        **release_members(wanted),
    }


def release_members(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a request says about releasing the key, as it is stored."""
    found: dict[str, Any] = {}
    if (body.get("attributes") or {}).get("exportable"):
        found["exportable"] = True
    policy = body.get("release_policy")
    if policy:
        found["release_policy"] = {
            "contentType": policy.get("contentType") or "application/json; charset=utf-8",
            "data": policy.get("data"),
            "immutable": bool(policy.get("immutable")),
        }
    return found


def public_part(material: str) -> dict[str, Any]:
    """Return the public members of the JWK of stored material."""
    key = load_private(material)
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return {
            "e": b64(numbers.e.to_bytes(3, "big")),
            "n": b64(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
        }
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("a stored key is RSA or elliptic curve")
    point = key.public_key().public_numbers()
    size = (key.curve.key_size + 7) // 8
    return {
        "crv": CURVE_NAMES[key.curve.name],
        "x": b64(point.x.to_bytes(size, "big")),
        "y": b64(point.y.to_bytes(size, "big")),
    }


def add_version(tx: Tx, hsm: str, name: str, version: Version) -> KeyDocument:
    """Write a version as the newest of a key, making the key where there is none.

    Raises:
        LabFault: the key lies deleted, or a limit is reached.
    """
    key = key_id(hsm, name)
    if tx.get(DELETED_KEY, key) is not None:
        raise deleted_conflict(name)
    document = tx.get(KEY, key) or {"name": name, "versions": []}
    if len(document["versions"]) >= MAX_VERSIONS:
        raise LabFault(409, "Conflict", f"A key has at most {MAX_VERSIONS} versions.")
    if not document["versions"] and tx.count(KEY, f"{hsm}/") >= MAX_KEYS:
        raise LabFault(409, "Conflict", f"A Managed HSM has at most {MAX_KEYS} keys.")
    document["versions"].append(version)
    tx.put(KEY, key, document)
    return document


def deleted_conflict(name: str) -> LabFault:
    """Return the refusal to use the name of a deleted key."""
    return LabFault(
        409,
        "Conflict",
        f"Key {name} is currently in a deleted but recoverable state, and its name cannot be "
        "reused; in this state, the key can only be recovered or purged.",
    )


def find(tx: Tx, hsm: str, name: str, version: str = "") -> tuple[KeyDocument, Version]:
    """Return a key and one of its versions, the newest if none is named.

    Raises:
        LabFault: 404 KeyNotFound.
    """
    document = tx.get(KEY, key_id(hsm, name))
    versions = document["versions"] if document else []
    if version:
        versions = [one for one in versions if one["version"] == version.lower()]
    if document is None or not versions:
        raise LabFault(
            404,
            "KeyNotFound",
            f"A key with (name/id) {name}{f'/{version}' if version else ''} was not found in "
            "this key vault. If you recently deleted this key you may be able to recover it.",
        )
    return document, versions[-1]


def wire_attributes(version: Version, retention_days: int, *, protected: bool) -> dict[str, Any]:
    """Return the attributes as the service shows them."""
    level = "Recoverable" if retention_days >= LONGEST_RETENTION_DAYS else "CustomizedRecoverable"
    return {
        **version["attributes"],
        "exportable": bool(version.get("exportable")),
        "recoverableDays": retention_days,
        "recoveryLevel": level if protected else f"{level}+Purgeable",
    }


def bundle(tx: Tx, hsm: dict[str, Any], name: str, version: Version) -> dict[str, Any]:
    """Return the key bundle of a version."""
    retention, protected = state.deletion_policy(tx, hsm)
    attributes = wire_attributes(version, retention, protected=protected)
    if state.is_vault(hsm) and not attributes["exportable"]:
        del attributes["exportable"]  # only HSMs always say it
    kid = f"https://{state.host_of(hsm['name'])}/keys/{name}/{version['version']}"
    found = {
        "attributes": attributes,
        "key": {
            **version["public"],
            "key_ops": version["ops"],
            "kid": kid,
            "kty": version["kty"].removesuffix("-HSM" if version.get("software") else " "),
        },
    }
    if version.get("release_policy"):
        found["release_policy"] = version["release_policy"]
    if version["tags"]:
        found["tags"] = version["tags"]
    return found


def list_item(
    tx: Tx, hsm: dict[str, Any], name: str, version: Version, *, with_version: bool
) -> dict[str, Any]:
    """Return a key or one of its versions as an item of a list."""
    full = bundle(tx, hsm, name, version)
    kid = full["key"]["kid"]
    item = {
        "attributes": full["attributes"],
        "kid": kid if with_version else kid.rsplit("/", 1)[0],
    }
    if "tags" in full:
        item["tags"] = full["tags"]
    return item


def deleted_members(tx: Tx, hsm: dict[str, Any], document: KeyDocument) -> dict[str, Any]:
    """Return what the wire form of a deleted key has in addition."""
    retention, _ = state.deletion_policy(tx, hsm)
    return {
        "deletedDate": document["deleted"],
        "recoveryId": f"https://{state.host_of(hsm['name'])}/deletedkeys/{document['name']}",
        "scheduledPurgeDate": document["deleted"] + retention * 86400,
    }
