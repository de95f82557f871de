"""The whole recovery of a Managed HSM with Microsoft's own clients, over real HTTPS."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.keyvault.administration import KeyVaultAccessControlClient, KeyVaultBackupClient
from azure.keyvault.keys import KeyClient
from azure.keyvault.securitydomain import SecurityDomainClient
from azure.mgmt.keyvault import KeyVaultManagementClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from drengine.lab import commands

TARGET = "contoso--dr"
TARGET_URL = f"https://{TARGET}.managedhsm.azure.net"
SOURCE_URL = "https://contoso--hsm.managedhsm.azure.net"


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


def decrypt_jwe(compact: str, *, cek: bytes = b"", key: Any = None) -> bytes:
    head, wrapped, iv, body, tag = compact.split(".")
    if key is not None:
        cek = key.decrypt(unb64(wrapped), OAEP)
    mac = hmac.new(
        cek[:32],
        head.encode() + unb64(iv) + unb64(body) + struct.pack(">Q", 8 * len(head)),
        "sha512",
    ).digest()[:32]
    assert hmac.compare_digest(mac, unb64(tag))
    plain = Cipher(algorithms.AES(cek[32:]), modes.CBC(unb64(iv))).decryptor().update(unb64(body))
    return plain[: -plain[-1]]


def encrypt_jwe(header: dict[str, str], wrapped: bytes, cek: bytes, plain: bytes) -> str:
    head = b64(json.dumps(header, separators=(",", ":")).encode())
    pad = 16 - len(plain) % 16
    iv = hashlib.sha256(plain + cek).digest()[:16]
    body = (
        Cipher(algorithms.AES(cek[32:]), modes.CBC(iv))
        .encryptor()
        .update(plain + bytes([pad]) * pad)
    )
    mac = hmac.new(
        cek[:32], head.encode() + iv + body + struct.pack(">Q", 8 * len(head)), "sha512"
    ).digest()[:32]
    return ".".join([head, b64(wrapped), b64(iv), b64(body), b64(mac)])


def kdf(master: bytes, label: str) -> bytes:
    return hmac.new(
        master, b"\0\0\0\1" + label.encode() + b"\0" + (512).to_bytes(4, "big"), "sha512"
    ).digest()


def open_domain(status: dict[str, Any], members: tuple[int, ...]) -> dict[str, bytes]:
    """Open the security domain with some custodians' keys, from the format notes alone."""
    found = status["security_domain"]
    file = json.loads(Path(found["file"]).read_text())
    points = []
    for number in members:
        cert = x509.load_pem_x509_certificate(Path(found["certificates"][number]).read_bytes())
        key = serialization.load_pem_private_key(Path(found["keys"][number]).read_bytes(), None)
        x5t = b64(cert.fingerprint(hashes.SHA256()))
        (share,) = [one for one in file["SharedKeys"]["enc_shares"] if one["x5t_256"] == x5t]
        words = struct.unpack("<32H", decrypt_jwe(share["enc_key"], key=key))
        assert {word >> 9 for word in words} == {number + 1}
        points.append((number + 1, [word & 511 for word in words]))
    master = bytearray()
    for position in range(32):
        total = 0
        for x, values in points:
            term = values[position]
            for other, _ in points:
                if other != x:
                    term = term * other * pow(other - x, -1, 257) % 257
            total += term
        master.append(total % 257 % 256)  # a wrong set of shares may give 256
    return {
        item["tag"]: decrypt_jwe(item["compact_jwe"], cek=kdf(bytes(master), item["tag"]))
        for item in file["EncData"]["data"]
    }


def restore_blob(plain: dict[str, bytes], jwk: dict[str, Any]) -> str:
    cert = x509.load_der_x509_certificate(base64.b64decode(jwk["x5c"][0]))
    master, cek = hashlib.sha256(b"new master").digest(), hashlib.sha512(b"cek").digest()
    enc = {"enc": "A256CBC-HS512"}
    data = [
        {
            "compact_jwe": encrypt_jwe(
                {"alg": "dir", **enc, "kid": tag}, b"", kdf(master, tag), raw
            ),
            "tag": tag,
        }
        for tag, raw in plain.items()
    ]
    wrapped = cert.public_key().encrypt(cek, OAEP)  # type: ignore[union-attr]
    key = encrypt_jwe({"alg": "RSA-OAEP-256", **enc, "kid": "not used"}, wrapped, cek, master)
    return json.dumps(
        {
            "EncData": {"data": data, "kdf": "sp108_kdf"},
            "WrappedKey": {"enc_key": key, "x5t_256": b64(cert.fingerprint(hashes.SHA256()))},
        }
    )


def test_any_two_custodians_open_the_domain_and_get_the_same_plaintexts(lab: Any) -> None:
    status = lab.status
    opened = [open_domain(status, members) for members in ((0, 1), (0, 2), (1, 2), (2, 0))]
    assert all(one == opened[0] for one in opened)
    assert list(opened[0]) == ["hsm_backup", "base_enclave_backup", "partition_enclave_backup"]
    assert opened[0]["hsm_backup"][:4] == b"\x01\xe8\x01\x00"
    assert opened[0]["partition_enclave_backup"][4:26] == b"\x05backup_protection_key"


def test_one_custodian_alone_does_not_open_the_domain(lab: Any) -> None:
    with pytest.raises(AssertionError):
        open_domain(lab.status, (0,))


def test_the_official_procedure_brings_all_keys_back(own_lab: Any) -> None:
    lab, credential, options = own_lab, own_lab.credential(), own_lab.client_options
    status = lab.status
    group, storage = status["resource_group"], status["storage"]
    container = f"https://{storage['account']}.blob.core.windows.net/{storage['container']}"
    with KeyClient(SOURCE_URL, credential, **options) as keys:
        before = {key.name: keys.get_key(key.name) for key in keys.list_properties_of_keys()}
        secret = b"0123456789abcdef0123456789abcdef"
        wrapped = keys.get_cryptography_client("sqlmi-tde").wrap_key("RSA-OAEP-256", secret)
    assert sorted(before) == ["app-wrap", "doc-sign", "sqlmi-tde", "sqlmi-tde-hr"]

    commands.disaster(lab.home, "purge")
    code, _, _ = lab.call("GET", f"{SOURCE_URL}/keys?api-version=7.4")
    assert code == 404

    arm = KeyVaultManagementClient(credential, status["subscription"], **options)
    poller = arm.managed_hsms.begin_create_or_update(
        group,
        TARGET,
        {
            "location": "northeurope",
            "sku": {"family": "B", "name": "Standard_B1"},
            "identity": {
                "type": "UserAssigned",
                "userAssignedIdentities": {status["identity"]["id"]: {}},
            },
            "properties": {
                "tenantId": status["tenant"],
                "initialAdminObjectIds": [status["object_id"]],
                "enablePurgeProtection": True,
            },
        },
    )
    made = poller.result()
    assert made.properties.security_domain_properties.activation_status == "NotActivated"
    assert made.properties.provisioning_state == "Succeeded"

    domain = SecurityDomainClient(TARGET_URL, credential, **options)
    transfer = domain.get_transfer_key()
    assert isinstance(transfer.transfer_key, str)
    blob = restore_blob(open_domain(status, (2, 0)), json.loads(transfer.transfer_key))
    domain.begin_upload({"value": blob}, polling_interval=0.05).result()
    assert domain.get_upload_status().status == "Success"
    active = arm.managed_hsms.get(group, TARGET).properties.security_domain_properties
    assert active.activation_status == "Active"

    backups = KeyVaultBackupClient(TARGET_URL, credential, **options)
    folder = f"{container}/{status['backup']['folder']}"
    with pytest.raises(HttpResponseError, match="full backup of this Managed HSM is required"):
        backups.begin_restore(folder, use_managed_identity=True)
    taken = backups.begin_backup(container, use_managed_identity=True).result()
    assert taken.folder_url.startswith(f"{container}/mhsm-{TARGET}-")
    backups.begin_restore(folder, use_managed_identity=True).result()

    with KeyClient(TARGET_URL, credential, **options) as keys:
        after = {key.name: keys.get_key(key.name) for key in keys.list_properties_of_keys()}
        for name, key in before.items():
            assert after[name].key.n == key.key.n
            assert after[name].properties.version == key.properties.version
            assert after[name].properties.created_on == key.properties.created_on
        assert len(list(keys.list_properties_of_key_versions("sqlmi-tde"))) == 3
        assert after["app-wrap"].properties.recovery_level == "Recoverable"
        unwrapped = keys.get_cryptography_client("sqlmi-tde").unwrap_key(
            "RSA-OAEP-256", wrapped.encrypted_key
        )
        assert unwrapped.key == secret
    access = KeyVaultAccessControlClient(TARGET_URL, credential, **options)
    restored = {
        (one.properties.principal_id, one.properties.scope)
        for one in access.list_role_assignments("/")
    }
    assert (status["object_id"], "/keys") in restored
    assert len(restored) >= 6
    effects = lab.effects()
    assert [one for one in effects if one in {"hsm.restore", "hsm.restore.done"}] == [
        "hsm.restore",
        "hsm.restore.done",
    ]
