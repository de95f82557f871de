"""Keys, roles and vaults, by the unmodified az."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

HSM = "--hsm-name contoso--hsm"
KEY = f"{HSM} --name signing"


@pytest.fixture(scope="module", autouse=True)
def officer(lab: Any, az: Any) -> None:
    """The operator may purge and recover keys too."""
    az(
        f"keyvault role assignment create {HSM} --scope /keys --assignee-object-id"
        f" {lab.status['object_id']} --role",
        "Managed HSM Crypto Officer",
    )


def test_a_key_lives(az: Any) -> None:
    made = az(f"keyvault key create {KEY} --kty RSA-HSM --size 3072 --ops wrapKey unwrapKey")
    assert made["key"]["kty"] == "RSA-HSM"
    assert az(f"keyvault key show {KEY}")["key"]["kid"] == made["key"]["kid"]
    rotated = az(f"keyvault key rotate {KEY}")
    assert rotated["key"]["n"] != made["key"]["n"]
    versions = az(f"keyvault key list-versions {KEY}")
    assert {one["kid"] for one in versions} == {made["key"]["kid"], rotated["key"]["kid"]}
    changed = az(f"keyvault key set-attributes {KEY} --enabled false --tags for=audit")
    assert (changed["attributes"]["enabled"], changed["tags"]) == (False, {"for": "audit"})
    assert any("signing" in one["kid"] for one in az(f"keyvault key list {HSM}"))


def test_a_key_encrypts_and_signs(az: Any) -> None:
    at = f"{HSM} --name app-wrap"
    value = base64.b64encode(b"a secret").decode()
    sealed = az(f"keyvault key encrypt {at} --algorithm RSA-OAEP-256 --value", value)["result"]
    opened = az(f"keyvault key decrypt {at} --algorithm RSA-OAEP-256 --value", sealed)
    assert opened["result"] == value
    digest = base64.b64encode(bytes(32)).decode()
    signed = az(f"keyvault key sign {at} --algorithm RS256 --digest", digest)["signature"]
    found = az(f"keyvault key verify {at} --algorithm RS256 --digest {digest} --signature", signed)
    assert found["isValid"] is True
    assert len(base64.b64decode(az(f"keyvault key random {HSM} --count 16")["value"])) == 16


def test_a_disabled_key_refuses_in_words(az: Any) -> None:
    refused = az(f"keyvault key encrypt {KEY} --algorithm RSA-OAEP --value YWJj", code=1)
    assert "Forbidden" in refused.err


def test_a_key_is_imported(az: Any, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    file = tmp_path / "key.pem"
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    file.write_bytes(pem)
    made = az(f"keyvault key import {HSM} --name imported --pem-file {file}")
    assert made["key"]["kty"] == "RSA-HSM"
    public = tmp_path / "public.pem"
    az(f"keyvault key download {HSM} --name imported --file {public} --encoding PEM")
    assert b"PUBLIC KEY" in public.read_bytes()


def test_a_rotation_policy_is_kept(az: Any, tmp_path: Path) -> None:
    trigger = {"trigger": {"timeAfterCreate": "P60D"}, "action": {"type": "Rotate"}}
    policy = {"lifetimeActions": [trigger], "attributes": {"expiryTime": "P90D"}}
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(policy))
    az(f"keyvault key rotation-policy update {HSM} --name app-wrap --value", str(file))
    found = az(f"keyvault key rotation-policy show {HSM} --name app-wrap")
    assert found["expiresIn"] == "P90D"


def test_a_key_is_deleted_recovered_backed_up_purged_and_restored(az: Any, tmp_path: Path) -> None:
    file = tmp_path / "key.backup"
    before = az(f"keyvault key show {KEY}")["key"]
    az(f"keyvault key backup {KEY} --file {file}")
    az(f"keyvault key delete {KEY}")
    assert [one["kid"] for one in az(f"keyvault key list-deleted {HSM}")]
    assert az(f"keyvault key show-deleted {KEY}")["key"]["kid"] == before["kid"]
    az(f"keyvault key recover {KEY}")
    az(f"keyvault key delete {KEY}")
    az(f"keyvault key purge {KEY}")
    back = az(f"keyvault key restore {HSM} --file {file}")["key"]
    assert (back["kid"], back["n"]) == (before["kid"], before["n"])


def test_roles_are_defined_assigned_and_taken_away(az: Any, tmp_path: Path) -> None:
    names = {one["roleName"] for one in az(f"keyvault role definition list {HSM}")}
    assert "Managed HSM Crypto Service Encryption User" in names
    file = tmp_path / "role.json"
    role = {
        "roleName": "Wrap only",
        "description": "",
        "actions": [],
        "notActions": [],
        "dataActions": ["Microsoft.KeyVault/managedHsm/keys/wrap/action"],
        "notDataActions": [],
    }
    file.write_text(json.dumps(role))
    made = az(f"keyvault role definition create {HSM} --role-definition @{file}")
    name = made["name"]
    assert az(f"keyvault role definition show {HSM} --name {name}")["roleName"] == "Wrap only"
    file.write_text(json.dumps({**role, "name": name, "id": made["id"], "description": "more"}))
    az(f"keyvault role definition update {HSM} --role-definition @{file}")
    who = str(uuid.uuid4())
    az(
        f"keyvault role assignment create {HSM} --scope /keys/app-wrap --assignee-object-id {who}"
        " --role",
        "Wrap only",
    )
    found = az(f"keyvault role assignment list {HSM} --scope /keys/app-wrap")
    assert who in {one["principalId"] for one in found}
    az(
        f"keyvault role assignment delete {HSM} --scope /keys/app-wrap --assignee-object-id {who}"
        " --role",
        "Wrap only",
    )
    az(f"keyvault role definition delete {HSM} --name {name}")


def test_a_vault_lives_and_its_keys_move_within_a_geography(
    lab: Any, az: Any, tmp_path: Path
) -> None:
    group = lab.status["resource_group"]
    places = {"lab--kv-a": "westeurope", "lab--kv-b": "northeurope", "lab--kv-c": "uksouth"}
    for name, place in places.items():
        az(f"keyvault create --name {name} -g {group} -l {place} --enable-rbac-authorization false")
        az(
            f"keyvault set-policy --name {name} --object-id {lab.status['object_id']}"
            " --key-permissions all"
        )
    made = az("keyvault key create --vault-name lab--kv-a --name tde --kty RSA --size 2048")
    assert made["key"]["kty"] == "RSA"
    file = tmp_path / "tde.backup"
    az(f"keyvault key backup --vault-name lab--kv-a --name tde --file {file}")
    back = az(f"keyvault key restore --vault-name lab--kv-b --file {file}")
    assert back["key"]["n"] == made["key"]["n"]
    refused = az(f"keyvault key restore --vault-name lab--kv-c --file {file}", code=1)
    assert "geography" in refused.err
    assert len(az("keyvault list")) == 4
    az("keyvault delete --name lab--kv-c")
    assert az("keyvault show-deleted --name lab--kv-c")["name"] == "lab--kv-c"
    az("keyvault recover --name lab--kv-c")
    az("keyvault delete --name lab--kv-c")
    az("keyvault purge --name lab--kv-c")
    assert az(f"keyvault show --name lab--kv-a -g {group}")["name"] == "lab--kv-a"
