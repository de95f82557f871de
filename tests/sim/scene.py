"""What every simulated recovery begins with: the lost HSM, its inventory, and the plans."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from pathlib import Path
from typing import Any

from drengine.actions.registry import CATALOGUE
from drengine.model.canonical import digest, sha256_hex
from drengine.model.cloud import KeyVersion, RoleAssignment
from drengine.model.plan import CloudIdentity, Plan
from drengine.model.runbook import Runbook, RunClass
from drengine.runbook.loader import load_runbook
from drengine.runbook.planner import make_plan
from sim.hsms import SUFFIX
from sim.sql import planned_groups

RUNBOOKS = Path(__file__).resolve().parents[2] / "runbooks"
ME = "00000000-0000-4000-8000-00000000000a"
WHERE = CloudIdentity("AzureCloud", "t", "s", ME, SUFFIX, "core.windows.net", lab=True)
FOLDER = "mhsm-source-2026111810120000"
USER, ADMIN = "21dbd100-6940-42c2-9190-5d6cb909625b", "a290e904-7015-4bba-90c8-60543313cdb4"


def source_keys() -> list[KeyVersion]:
    return [
        KeyVersion(
            name=name,
            version=f"{i:032x}",
            kid=f"https://source.{SUFFIX}/keys/{name}/{i:032x}",
            kty="oct-HSM",
            key_ops=("wrapKey", "unwrapKey"),
            enabled=True,
        )
        for i, name in enumerate(("alpha", "beta"))
    ]


def source_roles() -> list[RoleAssignment]:
    return [
        RoleAssignment("r1", "/", ADMIN, ME),
        RoleAssignment("r2", "/keys", USER, ME),
    ]


def inventory() -> bytes:
    secret = b"x" * 32
    return json.dumps(
        {
            "schema": "drengine/inventory/v1",
            "taken_at": "2026-11-18T10:00:00.000Z",
            "hsm": {"name": "source", "network": {}, "public_access": "Enabled"},
            "security_domain": None,
            "keys": [key.to_json() for key in source_keys()],
            "roles": [role.to_json() for role in source_roles()],
            "canaries": [
                {
                    "name": key.name,
                    "version": key.version,
                    "kind": "unwrap",
                    "algorithm": "A256KW",
                    "ciphertext": base64.urlsafe_b64encode(secret).rstrip(b"=").decode(),
                    "plaintext_sha256": sha256_hex(secret),
                }
                for key in source_keys()
            ],
            "instances": [],
        }
    ).encode()


def restore_blob(exchange: str) -> bytes:
    """Return bytes with the shape of a restore blob for that exchange key."""

    def part(header: dict[str, str], key: int, size: int) -> str:
        def b64(data: bytes) -> str:
            return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

        head = json.dumps(header, separators=(",", ":")).encode()
        return ".".join(
            (b64(head), b64(b"k" * key), b64(b"i" * 16), b64(b"c" * size), b64(b"t" * 32))
        )

    tags = ("hsm_backup", "base_enclave_backup", "partition_enclave_backup")
    direct = [
        {"compact_jwe": part({"alg": "dir", "enc": "A256CBC-HS512", "kid": t}, 0, 64), "tag": t}
        for t in tags
    ]
    wrapped = {"alg": "RSA-OAEP-256", "enc": "A256CBC-HS512", "kid": "not used"}
    return json.dumps(
        {
            "EncData": {"data": direct, "kdf": "sp108_kdf"},
            "WrappedKey": {"enc_key": part(wrapped, 512, 48), "x5t_256": exchange},
        }
    ).encode()


@functools.cache
def runbook_of(text: str) -> Runbook:
    return load_runbook(text, "runbook", CATALOGUE)


@functools.cache
def plan(*, sql: bool = False) -> Plan:
    """Return the plan that a simulated run starts from: the shipped recovery, with or without SQL."""
    listing = [[f"{FOLDER}/b", 10, "e"]]
    answers: dict[str, Any] = {
        "securitydomain.inspect": {"sha256": "0" * 64, "required": 2, "custodians": ["a", "b"]},
        "inventory.inspect": {"taken_at": "", "keys": 2, "security_domain": None},
        "backup.resolve": {
            "folder": FOLDER,
            "blobs": 1,
            "size": 10,
            "digest": digest(listing),
            "taken_at": "2026-11-18T10:12:00.000Z",
            "taken_at_ms": None,
            "newer": [],
        },
        "sqlmi.groups": planned_groups() if sql else [],
    }

    async def discover(source: str, values: Any) -> Any:
        del values
        return answers[source]

    def read_file(path: str) -> dict[str, Any]:
        data = inventory() if path == "inventory.json" else b"domain"
        return {"path": path, "sha256": sha256_hex(data), "size": len(data)}

    def load(name: str) -> Runbook:
        return runbook_of((RUNBOOKS / f"{name}.yaml").read_text())

    return asyncio.run(
        make_plan(
            runbook=load("mhsm-full-recovery"),
            given={
                "source_hsm": "source",
                "target_hsm": "target",
                "resource_group": "rg",
                "location": "northeurope",
                "inventory": "inventory.json",
                "sd_file": "domain.json",
                "container_url": "https://acct.blob.core.windows.net/backups",
                "storage_identity": "/subscriptions/00000000-0000-4000-8000-0000000000cc/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i",
                "protects_sql": sql,
                "soak": "2m",
                "incident_at": "2026-11-18T11:00:00Z",
            },
            run_class=RunClass.DRILL,
            cloud=WHERE,
            created_at="2026-11-18T12:00:00.000Z",
            tool_version="0",
            load=load,
            discover=discover,
            read_file=read_file,
            allow_lab_names=False,
            catalogue=CATALOGUE,
        )
    )
