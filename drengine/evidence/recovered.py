"""The recovered HSM's own signature over a bundle's manifest, and how it is checked.

The key's public half stands in the inventory that was taken before the disaster, and the
plan names that inventory's digest: what verifies was made with the private key that was
there before. The signature stands beside what is sealed, as time stamps do; a bundle need
not have one.

Pure but for reading the bundle. Asking the HSM is the caller's matter.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256

from drengine.errors import InputError, InputFileError
from drengine.evidence.bundle import BUNDLE, INVENTORY, MANIFEST
from drengine.model.canonical import canonical, parse_line, sha256_hex
from drengine.model.plan import Plan
from drengine.trust.dsse import parse_json

SCHEMA: Final = "drengine/hsm-signature/v1"
_P256_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Question:
    """What the recovered HSM is asked to sign, and with what.

    Attributes:
        target: the recovered HSM's name, as the plan has it.
        key: the key version as the inventory recorded it.
        sha256: digest of manifest.json.
    """

    plan: Plan
    target: str
    key: Mapping[str, Any]
    algorithm: str
    sha256: str
    inventory_sha256: str

    @property
    def path(self) -> str:
        """The key's place on the HSM."""
        return f"keys/{self.key['name']}/{self.key['version']}"


def question_of(bundle: Path, named: str) -> Question:
    """Return what to ask of the HSM for a sealed bundle.

    Parameters:
        named: a key's name, or `name/version`; by default its newest version that may sign.

    Raises:
        InputFileError: the folder is no sealed bundle with an inventory.
        InputError: the inventory has no such key that can sign.
    """
    try:
        manifest = (bundle / MANIFEST).read_bytes()
        before = (bundle / INVENTORY).read_bytes()
        plan = Plan.from_json(parse_json((bundle / BUNDLE.plan).read_bytes()))
        keys = _keys_of(before)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputFileError(
            f"reading {bundle}: it is no sealed bundle with the inventory from before ({error})",
            hint="drengine evidence seal RUN; the plan must have had an inventory.",
        ) from None
    name, _, version = named.partition("/")
    found = [key for (its, of), key in keys.items() if its == name and version in ("", of)]
    able = [(key, algorithm) for key in found for algorithm in _able(key)]
    if not able:
        held = "holds no such key" if not found else "does not let it sign by RSA or P-256"
        raise InputError(
            f"signing with the key {named!r}: the inventory from before {held}",
            hint="Name a key that signed before the disaster: its public half must be on record.",
        )
    key, algorithm = max(able, key=lambda pair: pair[0].get("created") or 0)
    target = str(plan.root.inputs.get("target_hsm"))
    return Question(plan, target, key, algorithm, sha256_hex(manifest), sha256_hex(before))


def _keys_of(inventory: bytes) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(key["name"], key["version"]): key for key in parse_json(inventory)["keys"]}


def _able(key: Mapping[str, Any]) -> tuple[str, ...]:
    if "sign" not in key.get("key_ops", ()) or key.get("enabled") is not True:
        return ()
    if key.get("crv") == "P-256":
        return ("ES256",)
    return ("PS256",) if str(key.get("kty")).startswith("RSA") else ()


def keep_signature(bundle: Path, question: Question, signature: bytes) -> bytes:
    """Return the document to be put into the bundle.

    Raises:
        InputError: the signature does not fit the key that was there before.
    """
    if not fits(question.key, question.algorithm, question.sha256, signature):
        raise InputError(
            f"{question.target} signed with {question.path}, but not with the key that was there"
            f" before: the recorded public half does not verify it; {bundle} was left as it is",
            hint="drengine verify; compare the proof of the keys in the report.",
        )
    doc = {
        "schema": SCHEMA,
        "hsm": question.target,
        "key": str(question.key["name"]),
        "version": str(question.key["version"]),
        "algorithm": question.algorithm,
        "manifest_sha256": question.sha256,
        "inventory_sha256": question.inventory_sha256,
        "signature": base64.b64encode(signature).decode(),
    }
    return canonical(doc) + b"\n"


def signature_problem(data: bytes, plan: Plan, inventory: bytes, manifest: str) -> tuple[str, str]:
    """Return what is wrong with a signature of the HSM, and the key that made it.

    Parameters:
        manifest: digest of the manifest as it is.
    """
    try:
        doc = parse_line(data)
        signature = base64.b64decode(doc["signature"], validate=True)
        key = _keys_of(inventory).get((doc["key"], doc["version"]))
        place = f"{doc['hsm']}/{doc['key']}/{doc['version']}"
        expected = {
            "schema": SCHEMA,
            "hsm": str(plan.root.inputs.get("target_hsm")),
            "manifest_sha256": manifest,
            "inventory_sha256": sha256_hex(inventory),
            "signature": base64.b64encode(signature).decode(),
        }
    except (ValueError, KeyError, TypeError) as error:
        return f"cannot be read: {error}", ""
    named = plan.root.inputs.get("inventory")
    if not isinstance(named, Mapping) or named.get("sha256") != expected["inventory_sha256"]:
        return "the inventory here is not the one that the plan names", place
    if wrong := [name for name, value in expected.items() if doc.get(name) != value]:
        return f"its {wrong[0]} is not this bundle's", place
    if doc.keys() != {*expected, "key", "version", "algorithm"} or key is None:
        return "names a key that the inventory from before does not hold", place
    if not fits(key, doc["algorithm"], manifest, signature):
        return "was not made with the key that was there before", place
    return "", place


def fits(public: Mapping[str, Any], algorithm: object, sha256: str, signature: bytes) -> bool:
    """Whether a signature over a SHA-256 verifies with a recorded public half."""

    def number(name: str) -> int:
        text = str(public[name])
        return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")

    digest, hashed = bytes.fromhex(sha256), utils.Prehashed(SHA256())
    try:
        if algorithm == "ES256" and len(signature) == 2 * _P256_BYTES:
            point = ec.EllipticCurvePublicNumbers(number("x"), number("y"), ec.SECP256R1())
            halves = signature[:_P256_BYTES], signature[_P256_BYTES:]
            r, s = (int.from_bytes(half, "big") for half in halves)
            der = utils.encode_dss_signature(r, s)
            point.public_key().verify(der, digest, ec.ECDSA(hashed))
            return True
        if algorithm in ("RS256", "PS256"):
            pss = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)
            scheme = padding.PKCS1v15() if algorithm == "RS256" else pss
            modulus = rsa.RSAPublicNumbers(number("e"), number("n")).public_key()
            modulus.verify(signature, digest, scheme, hashed)
            return True
    except (InvalidSignature, ValueError, KeyError):
        return False
    return False
