"""Proof of recovery: nothing is believed that was not read back or used.

Each proof only reads. Its checkpoint carries the evidence that the report shows:
which key versions are there with which public key, which canary opened, which role
assignment is missing. The databases have their own (`proof_databases`).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from drengine.actions.base import BaseAction
from drengine.actions.contract import StepContext, Verified
from drengine.actions.documents import inventory_of
from drengine.azure.ports import HsmData
from drengine.errors import AzureError
from drengine.model.canonical import JsonObject
from drengine.model.catalogue import ActionSpec, Parameter, Repeat
from drengine.model.cloud import KeyVersion, Operation
from drengine.model.findings import Finding, block, ok, warn

_AT_ONCE: Final = 16
_ECDSA: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_HASHES: Final = {"ES256": "sha256", "ES384": "sha384", "ES512": "sha512", "RS256": "sha256"}


def unb64(text: str) -> bytes:
    """Return the bytes of unpadded base64url."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class ProveKeys(BaseAction):
    """Compare every key version with the inventory and use every canary."""

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """Return nothing: everything is in the verification."""
        del ctx
        return {}

    async def verify(self, ctx: StepContext) -> Verified:
        """Read all versions, compare public keys, use the canaries."""
        inventory = inventory_of(ctx)
        data = ctx.cloud.hsm(str(ctx.values["uri"]))
        found = {(k.name, k.version): k for k in await data.keys()}
        canaries = {(c["name"], c["version"]): c for c in inventory.get("canaries", [])}
        limit = asyncio.Semaphore(_AT_ONCE)

        async def prove(expected: Mapping[str, Any]) -> dict[str, Any]:
            place = (str(expected["name"]), str(expected["version"]))
            async with limit:
                return await _prove_key(
                    data, expected, found.get(place), canaries.get(place), ctx.where.hsm_suffix
                )

        rows = await asyncio.gather(*(prove(key) for key in inventory["keys"]))
        shown = {
            "keys": sorted(rows, key=lambda row: (row["name"], row["version"])),
            "inventory": {"sha256": ctx.inputs["inventory"]["sha256"], **_taken(inventory)},
        }
        taken = str((ctx.plan.get("backup") or {}).get("taken_at", ""))
        return Verified(_key_findings(rows, taken), evidence=shown)

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        return f"az keyvault key list-versions --hsm-name {ctx.inputs['target_hsm']} -n KEY"


def _taken(inventory: Mapping[str, Any]) -> dict[str, Any]:
    return {"taken_at": inventory.get("taken_at", "")}


async def _prove_key(
    data: HsmData,
    expected: Mapping[str, Any],
    found: KeyVersion | None,
    canary: Mapping[str, Any] | None,
    suffix: str,
) -> dict[str, Any]:
    del suffix
    row: dict[str, Any] = {
        "name": expected["name"],
        "version": expected["version"],
        "kty": expected["kty"],
        "public_key_equal": None,
        "canary": "none",
        "why": "",
    }
    if found is None:
        return {**row, "status": "missing", "why": "not on the target"}
    parts = ("n", "e", "crv", "x", "y")
    if any(expected.get(part) for part in parts):
        equal = all(getattr(found, part) == (expected.get(part) or "") for part in parts)
        row["public_key_equal"] = equal
    row["status"] = "different" if row["public_key_equal"] is False else "present"
    outcome, why = await _use_canary(data, found, expected, canary)
    return {**row, "canary": outcome, "why": why}


async def _use_canary(
    data: HsmData,
    found: KeyVersion,
    expected: Mapping[str, Any],
    canary: Mapping[str, Any] | None,
) -> tuple[str, str]:
    if canary is None:
        return "unprovable", "no canary was made: disabled, or no operation that proves it"
    try:
        if canary["kind"] == "unwrap":
            plain = await data.unwrap(found.kid, canary["algorithm"], unb64(canary["ciphertext"]))
            if hashlib.sha256(plain).hexdigest() == canary["plaintext_sha256"]:
                return "unwrapped", ""
            return "failed", "it opens to something else"
        return await _sign_canary(data, found, expected, canary)
    except AzureError as error:
        return "failed", error.message


async def _sign_canary(
    data: HsmData, found: KeyVersion, expected: Mapping[str, Any], canary: Mapping[str, Any]
) -> tuple[str, str]:
    algorithm = str(canary["algorithm"])
    message = f"drengine canary {found.name}/{found.version}".encode()
    digest = hashlib.new(_HASHES[algorithm], message).digest()
    signature = await data.sign(found.kid, algorithm, digest)
    if verify_signature(expected, algorithm, digest, signature):
        return "signature verified", "signed now, checked with the recorded public key"
    return "failed", "the signature does not fit the recorded public key"


def verify_signature(
    public: Mapping[str, Any], algorithm: str, digest: bytes, signature: bytes
) -> bool:
    """Check a signature over a digest with a recorded JWK public key.

    ECDSA signatures are raw `r || s`, as Key Vault returns them.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - heavy, rarely needed
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils  # noqa: PLC0415

    def number(name: str) -> int:
        return int.from_bytes(unb64(str(public[name])), "big")

    try:
        if algorithm == "RS256":
            rsa_key = rsa.RSAPublicNumbers(number("e"), number("n")).public_key()
            hashed = utils.Prehashed(hashes.SHA256())
            rsa_key.verify(signature, digest, padding.PKCS1v15(), hashed)
            return True
        curve: ec.EllipticCurve = {
            "ES256": ec.SECP256R1(),
            "ES384": ec.SECP384R1(),
            "ES512": ec.SECP521R1(),
        }[algorithm]
        half = len(signature) // 2
        r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
        kind: hashes.HashAlgorithm = {
            "ES256": hashes.SHA256(),
            "ES384": hashes.SHA384(),
            "ES512": hashes.SHA512(),
        }[algorithm]
        ec_key = ec.EllipticCurvePublicNumbers(number("x"), number("y"), curve).public_key()
        encoded = utils.encode_dss_signature(r, s)
        ec_key.verify(encoded, digest, ec.ECDSA(utils.Prehashed(kind)))
    except (InvalidSignature, ValueError):
        return False
    return True


def _key_findings(rows: list[dict[str, Any]], taken: str) -> tuple[Finding, ...]:
    def named(wanted: list[dict[str, Any]]) -> str:
        return ", ".join(f"{row['name']}/{row['version'][:8]}" for row in wanted[:8])

    findings: list[Finding] = []
    present = [row for row in rows if row["status"] == "present"]
    if missing := [row for row in rows if row["status"] == "missing"]:
        text = f"{len(missing)} key versions are not on the target: {named(missing)}"
        advice = f"What was made after the backup ({taken or 'time unknown'}) is not in it: that"
        advice += " is the recovery point. Choose a later backup where there is one."
        findings.append(block("K06", text, advice))
    if different := [row for row in rows if row["status"] == "different"]:
        text = f"{len(different)} key versions have another public key: {named(different)}"
        advice = "It is another HSM's backup: plan again with the right one."
        findings.append(block("K06", text, advice))
    if failed := [row for row in rows if row["canary"] == "failed"]:
        text = f"{len(failed)} canaries failed: {named(failed)}: {failed[0]['why']}"
        advice = "They are not recovered: resume to try again, or plan with another backup."
        findings.append(block("canaries", text, advice))
    unprovable = [row for row in rows if row["canary"] in ("unprovable", "none")]
    if unprovable:
        text = f"{len(unprovable)} key versions cannot be proved by use: {named(unprovable)}"
        findings.append(warn("canaries", text, "Their public keys were compared, where they have."))
    text = f"{len(present)} of {len(rows)} key versions are present with an equal public key"
    proved = len(rows) - len(unprovable)
    findings.append(ok("K06", f"{text}; {proved} proved by use"))
    return tuple(findings)


class ProveRoles(BaseAction):
    """Compare the target's role assignments with the inventory."""

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """Return nothing: everything is in the verification."""
        del ctx
        return {}

    async def verify(self, ctx: StepContext) -> Verified:
        """List the assignments and compare scope, role and principal."""
        expected = _by_key(inventory_of(ctx)["roles"])
        assignments = await ctx.cloud.hsm(str(ctx.values["uri"])).role_assignments()
        found = _by_key([assignment.to_json() for assignment in assignments])
        missing = sorted(expected[key] for key in expected.keys() - found.keys())
        extra = sorted(found[key] for key in found.keys() - expected.keys())
        evidence = {
            "expected": len(expected),
            "found": len(found),
            "missing": missing,
            "extra": extra,
        }
        if missing:
            text = f"{len(missing)} of {len(expected)} role assignments are missing"
            finding = block("roles", text, "Assign them again by hand; the report lists them.")
        elif extra:
            finding = warn("roles", f"{len(extra)} role assignments are new", facts=evidence)
        else:
            finding = ok("roles", f"all {len(expected)} role assignments are as in the inventory")
        return Verified((finding,), evidence=evidence)

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        return f"az keyvault role assignment list --hsm-name {ctx.inputs['target_hsm']}"


def _by_key(roles: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], list[str]]:
    """Return each assignment (scope, role, principal) by the same in lower case.

    Role and principal are GUIDs and names of keys know no case: nothing else is in them.
    """
    found = {}
    for role in roles:
        scope, name, principal = (str(role[part]) for part in ("scope", "role", "principal"))
        found[scope.lower(), name.lower(), principal.lower()] = [scope, name, principal]
    return found


KEYS = ProveKeys(
    ActionSpec(
        name="proof.keys",
        title="Prove the keys against the inventory",
        parameters=(Parameter("uri", "data-plane URI of the target"),),
        outputs=(),
        repeat=Repeat.READ,
        settle_ms=300_000,
        expected_ms=30_000,
    )
)

ROLES = ProveRoles(
    ActionSpec(
        name="proof.roles",
        title="Prove the role assignments against the inventory",
        parameters=(Parameter("uri", "data-plane URI of the target"),),
        outputs=(),
        repeat=Repeat.READ,
        settle_ms=120_000,
        expected_ms=5_000,
    )
)
