"""Keys, roles, backups and refusals of the Managed HSM's data plane."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.administration import (
    KeyVaultAccessControlClient,
    KeyVaultBackupClient,
    KeyVaultPermission,
    KeyVaultSettingsClient,
)
from azure.keyvault.keys import JsonWebKey, KeyClient, KeyCurveName
from azure.keyvault.keys.crypto import EncryptionAlgorithm, KeyWrapAlgorithm, SignatureAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from drengine.lab import commands

URL = "https://contoso--hsm.managedhsm.azure.net"
OFFICER = "515eb02d-2335-4d2d-92f2-b1cbdf9c3778"
CRYPTO_USER = "21dbd100-6940-42c2-9190-5d6cb909625b"
SERVICE_USER = "33413926-3206-4cdd-b39a-83574fe37a17"
DEFINITIONS = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/"


@pytest.fixture(scope="module")
def keys(lab: Any) -> Iterator[KeyClient]:
    with KeyClient(URL, lab.credential(), **lab.client_options) as client:
        yield client


@pytest.fixture(scope="module")
def container(lab: Any) -> str:
    storage = lab.status["storage"]
    return f"https://{storage['account']}.blob.core.windows.net/{storage['container']}"


@pytest.fixture(scope="module")
def backups(lab: Any) -> KeyVaultBackupClient:
    return KeyVaultBackupClient(URL, lab.credential(), _polling_interval=0.05, **lab.client_options)


@pytest.fixture(scope="module")
def officer(lab: Any) -> None:
    """Let the operator recover and purge deleted keys, which Crypto User may not."""
    assign(lab, lab.status["object_id"], OFFICER, "/")


def assign(lab: Any, principal: str, role: str, scope: str) -> tuple[int, Any, Any]:
    prefix = "" if scope == "/" else scope
    url = f"{URL}{prefix}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
    wanted = {"roleDefinitionId": DEFINITIONS + role, "principalId": principal}
    return lab.call("PUT", f"{url}?api-version=7.4", {"properties": wanted})


def test_the_estate_holds_keys_of_every_kind(keys: KeyClient) -> None:
    found = {key.name: keys.get_key(key.name) for key in keys.list_properties_of_keys()}
    assert [one.key_type for one in found.values()] == ["RSA-HSM", "EC-HSM", "RSA-HSM", "RSA-HSM"]
    assert len(found["sqlmi-tde-hr"].key.n) * 8 == 3072
    versions = list(keys.list_properties_of_key_versions("sqlmi-tde"))
    assert len({one.version for one in versions}) == 3
    assert found["sqlmi-tde"].properties.version == versions[-1].version
    assert versions[0].created_on < versions[1].created_on < versions[2].created_on


@pytest.mark.parametrize("size", [2048, 3072, 4096])
def test_a_key_wraps_and_only_it_unwraps(keys: KeyClient, size: int) -> None:
    key = keys.create_rsa_key(f"wrap-{size}", size=size, hardware_protected=True)
    use = keys.get_cryptography_client(key.name, key_version=key.properties.version)
    wrapped = use.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"s" * 32)
    assert use.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key).key == b"s" * 32
    other = keys.get_cryptography_client("app-wrap")
    with pytest.raises(HttpResponseError, match="BadParameter"):
        other.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key)


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("app-wrap", SignatureAlgorithm.rs256),
        ("app-wrap", SignatureAlgorithm.ps512),
        ("doc-sign", SignatureAlgorithm.es256),
    ],
)
def test_signatures_verify_with_the_public_key_and_not_over_another_digest(
    keys: KeyClient, kind: str, algorithm: SignatureAlgorithm
) -> None:
    size = int(algorithm.value[2:]) // 8
    use = keys.get_cryptography_client(kind)
    signature = use.sign(algorithm, b"d" * size).signature
    assert use.verify(algorithm, b"d" * size, signature).is_valid
    assert not use.verify(algorithm, b"e" * size, signature).is_valid


def test_symmetric_keys_encrypt_and_wrap(keys: KeyClient) -> None:
    key = keys.create_oct_key("oct-key", size=256, hardware_protected=True)
    use = keys.get_cryptography_client(key.name)
    sealed = use.encrypt(
        EncryptionAlgorithm.a256_gcm, b"text", additional_authenticated_data=b"aad"
    )
    opened = use.decrypt(
        EncryptionAlgorithm.a256_gcm,
        sealed.ciphertext,
        iv=sealed.iv,
        authentication_tag=sealed.tag,
        additional_authenticated_data=b"aad",
    )
    assert opened.plaintext == b"text"
    with pytest.raises(HttpResponseError, match="BadParameter"):
        use.decrypt(
            EncryptionAlgorithm.a256_gcm,
            sealed.ciphertext,
            iv=sealed.iv,
            authentication_tag=sealed.tag,
            additional_authenticated_data=b"other",
        )
    wrapped = use.wrap_key(KeyWrapAlgorithm.aes_256, b"k" * 32).encrypted_key
    assert use.unwrap_key(KeyWrapAlgorithm.aes_256, wrapped).key == b"k" * 32


def test_an_imported_key_keeps_its_material(keys: KeyClient) -> None:
    own = rsa.generate_private_key(65537, 2048)
    private, public = own.private_numbers(), own.public_key().public_numbers()

    def raw(number: int) -> bytes:
        return number.to_bytes((number.bit_length() + 7) // 8, "big")

    jwk = JsonWebKey(
        kty="RSA-HSM",
        key_ops=["wrapKey", "unwrapKey"],
        n=raw(public.n),
        e=raw(public.e),
        d=raw(private.d),
        p=raw(private.p),
        q=raw(private.q),
        dp=raw(private.dmp1),
        dq=raw(private.dmq1),
        qi=raw(private.iqmp),
    )
    made = keys.import_key("imported", jwk, hardware_protected=True)
    assert made.key.n == raw(public.n)
    assert made.key.d is None
    with pytest.raises(HttpResponseError, match="Forbidden"):
        keys.get_cryptography_client("imported").sign(SignatureAlgorithm.rs256, b"d" * 32)


def test_a_disabled_key_is_shown_and_not_used(keys: KeyClient) -> None:
    key = keys.create_ec_key("switch", curve=KeyCurveName.p_384, hardware_protected=True)
    keys.update_key_properties("switch", enabled=False, tags={"a": "b"})
    shown = keys.get_key("switch")
    assert (shown.properties.enabled, shown.properties.tags) == (False, {"a": "b"})
    assert shown.properties.version == key.properties.version
    # a client with the public key at hand would refuse by itself, so ask the service
    with pytest.raises(HttpResponseError, match="Forbidden"):
        keys.get_cryptography_client("switch").sign(SignatureAlgorithm.es384, b"d" * 48)


def test_rotation_makes_a_new_version_and_keeps_the_old_one(keys: KeyClient) -> None:
    first = keys.create_rsa_key("turn", size=2048, hardware_protected=True)
    second = keys.rotate_key("turn")
    assert second.properties.version != first.properties.version
    assert second.key.n != first.key.n
    assert keys.get_key("turn").properties.version == second.properties.version
    assert keys.get_key("turn", first.properties.version).key.n == first.key.n


@pytest.mark.usefixtures("officer")
def test_deleted_keys_are_recovered_purged_and_block_their_name(keys: KeyClient) -> None:
    made = keys.create_rsa_key("gone", size=2048, hardware_protected=True)
    deleted = keys.begin_delete_key("gone").result()
    assert deleted.recovery_id == f"{URL}/deletedkeys/gone"
    with pytest.raises(ResourceNotFoundError):
        keys.get_key("gone")
    with pytest.raises(ResourceExistsError):
        keys.create_rsa_key("gone", size=2048, hardware_protected=True)
    assert keys.begin_recover_deleted_key("gone").result().name == "gone"
    assert keys.get_key("gone").key.n == made.key.n
    keys.begin_delete_key("gone").result()
    keys.purge_deleted_key("gone")
    assert "gone" not in [one.name for one in keys.list_deleted_keys()]


@pytest.mark.usefixtures("officer")
def test_one_key_goes_through_its_own_backup(keys: KeyClient) -> None:
    made = keys.create_rsa_key("single", size=2048, hardware_protected=True)
    backup = keys.backup_key("single")
    with pytest.raises(ResourceExistsError):
        keys.restore_key_backup(backup)
    keys.begin_delete_key("single").result()
    keys.purge_deleted_key("single")
    back = keys.restore_key_backup(backup)
    assert (back.key.n, back.properties.version) == (made.key.n, made.properties.version)
    with pytest.raises(HttpResponseError, match="BadParameter"):
        keys.restore_key_backup(backup[:-9] + b"A" * 9)


def test_lists_come_in_pages(keys: KeyClient) -> None:
    for number in range(30):
        keys.create_ec_key(f"page-{number:02}", curve="P-256", hardware_protected=True)
    names = [one.name for one in keys.list_properties_of_keys()]
    assert len(names) == len(set(names)) > 30
    pages = list(keys.list_properties_of_keys(max_page_size=10).by_page())
    assert len(pages) >= 4


def test_random_bytes_and_settings(lab: Any, keys: KeyClient) -> None:
    assert len({keys.get_random_bytes(16) for _ in range(3)}) == 3
    settings = KeyVaultSettingsClient(URL, lab.credential(), **lab.client_options)
    (one,) = settings.list_settings()
    assert (one.name, one.getboolean()) == ("AllowKeyManagementOperationsThroughARM", False)


def test_rights_end_at_the_scope_of_their_assignment(lab: Any) -> None:
    someone = str(uuid.uuid4())
    token = lab.token(object_id=someone)

    def wrap(name: str) -> int:
        body = {"alg": "RSA-OAEP-256", "value": "AAAA"}
        url = f"{URL}/keys/{name}/wrapkey?api-version=7.5"
        return int(lab.call("POST", url, body, token=token)[0])

    assert wrap("app-wrap") == 403
    status, _, made = assign(lab, someone, SERVICE_USER, "/keys/app-wrap")
    assert (status, made["properties"]["scope"]) == (201, "/keys/app-wrap")
    assert made["id"] == f"/providers/Microsoft.Authorization/roleAssignments/{made['name']}"
    assert (wrap("app-wrap"), wrap("sqlmi-tde")) == (200, 403)
    assert lab.call("GET", f"{URL}/keys?api-version=7.5", token=token)[0] == 403
    assert lab.call("GET", f"{URL}/keys/app-wrap/?api-version=7.5", token=token)[0] == 200
    url = f"{URL}/keys/app-wrap/providers/Microsoft.Authorization/roleAssignments/{made['name']}"
    assert lab.call("DELETE", f"{url}?api-version=7.4")[0] == 200
    assert wrap("app-wrap") == 403


def test_roles_are_listed_assigned_once_and_defined(lab: Any) -> None:
    access = KeyVaultAccessControlClient(URL, lab.credential(), **lab.client_options)
    names = {one.role_name for one in access.list_role_definitions("/")}
    assert {"Managed HSM Administrator", "Managed HSM Crypto User"} <= names
    assert len(names) >= 9
    who = str(uuid.uuid4())
    assert assign(lab, who, CRYPTO_USER, "/keys")[0] == 201
    status, _, refused = assign(lab, who, CRYPTO_USER, "/keys")
    assert (status, refused["error"]["code"]) == (409, "RoleAssignmentExists")
    status, _, refused = assign(lab, who, str(uuid.uuid4()), "/keys")
    assert (status, refused["error"]["message"]) == (400, "Unkown role definition")
    custom = access.set_role_definition(
        "/",
        role_name="Reader of keys",
        permissions=[
            KeyVaultPermission(data_actions=["Microsoft.KeyVault/managedHsm/keys/read/action"])
        ],
    )
    reader = str(uuid.uuid4())
    assert assign(lab, reader, custom.name, "/keys")[0] == 201
    token = lab.token(object_id=reader)
    assert lab.call("GET", f"{URL}/keys?api-version=7.5", token=token)[0] == 200
    access.delete_role_definition("/", custom.name)
    assert lab.call("GET", f"{URL}/keys?api-version=7.5", token=token)[0] == 403


def test_an_administrator_has_no_right_to_use_keys(lab: Any) -> None:
    admin = str(uuid.uuid4())
    assign(lab, admin, "a290e904-7015-4bba-90c8-60543313cdb4", "/")
    token = lab.token(object_id=admin)
    assert lab.call("GET", f"{URL}/settings?api-version=7.5", token=token)[0] == 200
    assert lab.call("GET", f"{URL}/keys?api-version=7.5", token=token)[0] == 403


def test_backups_work_with_a_token_and_say_why_they_fail(
    lab: Any, backups: KeyVaultBackupClient, container: str
) -> None:
    done = backups.begin_backup(container, sas_token=lab.status["storage"]["sas"]).result()
    assert done.folder_url.startswith(f"{container}/mhsm-contoso--hsm-20")
    backups.begin_pre_backup(container, use_managed_identity=True).wait()
    for url, sas in (
        (container, "sv=1&sr=c&sp=r&sig=AAAA"),
        (container + "-missing", lab.status["storage"]["sas"]),
        ("https://no-such-account.blob.core.windows.net/c", "sig=x"),
    ):
        with pytest.raises(HttpResponseError, match="The storage service refused"):
            backups.begin_backup(url, sas_token=sas).result()


def test_only_one_backup_runs_at_a_time(lab: Any, container: str) -> None:
    body = {"storageResourceUri": container, "useManagedIdentity": True}
    commands.set_clock(lab.home, speed=1.0)
    first = lab.call("POST", f"{URL}/backup?api-version=7.5", body)
    assert first[0] == 202
    assert set(first[2]) == {
        "azureStorageBlobContainerUri",
        "endTime",
        "error",
        "jobId",
        "startTime",
        "status",
        "statusDetails",
    }
    assert first[1]["azure-asyncoperation"] == f"{URL}/backup/{first[2]['jobId']}/pending"
    second = lab.call("POST", f"{URL}/backup?api-version=7.5", body)
    assert (second[0], second[2]["error"]["message"]) == (
        409,
        "Another backup operation is in progress",
    )
    commands.set_clock(lab.home, speed=commands.FAST_SPEED)
    wait(lab, first[1]["azure-asyncoperation"])


def wait(lab: Any, url: str) -> dict[str, Any]:
    until = time.monotonic() + 20
    while True:
        job = dict(lab.call("GET", url)[2])
        if job.get("status") != "InProgress":
            return job
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.usefixtures("officer")
def test_one_key_comes_back_from_a_full_backup(
    lab: Any, keys: KeyClient, backups: KeyVaultBackupClient, container: str
) -> None:
    keys.create_rsa_key("lost", size=2048, hardware_protected=True)
    made = keys.create_rsa_key("lost", size=2048, hardware_protected=True)
    folder = backups.begin_backup(container, use_managed_identity=True).result().folder_url
    keys.begin_delete_key("lost").result()
    with pytest.raises(HttpResponseError, match="purge it first"):
        backups.begin_restore(folder, use_managed_identity=True, key_name="lost").result()
    keys.purge_deleted_key("lost")
    parameters = {"storageResourceUri": container, "useManagedIdentity": True}
    body = {"sasTokenParameters": parameters, "folder": folder.rsplit("/", 1)[1]}
    answer = lab.call("PUT", f"{URL}/keys/lost/restore?api-version=7.5", body)
    job = wait(lab, answer[1]["azure-asyncoperation"])
    assert job["statusDetails"] == (
        "Number of successful key versions restored: 2, "
        "Number of key versions could not overwrite: 0"
    )
    assert keys.get_key("lost").key.n == made.key.n


def test_a_restore_of_nothing_or_of_damage_fails_and_changes_nothing(
    lab: Any, keys: KeyClient, backups: KeyVaultBackupClient, container: str
) -> None:
    before = [one.name for one in keys.list_properties_of_keys()]
    with pytest.raises(HttpResponseError, match="holds no backup"):
        backups.begin_restore(f"{container}/mhsm-none-1", use_managed_identity=True).result()
    folder = backups.begin_backup(container, use_managed_identity=True).result().folder_url
    token = lab.token("https://storage.azure.com")
    blob = f"{folder}/keys-0000.bin"
    version = {"x-ms-version": "2021-12-02", "x-ms-blob-type": "BlockBlob"}
    assert lab.call("PUT", blob, {"x": 1}, token=token, **version)[0] == 201
    with pytest.raises(HttpResponseError, match="damaged"):
        backups.begin_pre_restore(folder, use_managed_identity=True).wait()
    with pytest.raises(HttpResponseError, match="damaged"):
        backups.begin_restore(folder, use_managed_identity=True).result()
    assert lab.call("DELETE", f"{folder}/complete", token=token, **version)[0] == 202
    with pytest.raises(HttpResponseError, match="incomplete"):
        backups.begin_restore(folder, use_managed_identity=True).result()
    assert [one.name for one in keys.list_properties_of_keys()] == before


def test_a_restore_replaces_keys_and_roles_and_closes_the_data_plane_meanwhile(
    own_lab: Any,
) -> None:
    lab = own_lab
    found = lab.status
    container = f"https://{found['storage']['account']}.blob.core.windows.net/hsm-backups"
    who = str(uuid.uuid4())
    assert assign(lab, who, CRYPTO_USER, "/keys")[0] == 201
    assert lab.call("POST", f"{URL}/keys/later/create?api-version=7.5", {"kty": "EC"})[0] == 200
    parameters = {"storageResourceUri": container, "useManagedIdentity": True}
    body = {"sasTokenParameters": parameters, "folderToRestore": found["backup"]["folder"]}
    commands.set_clock(lab.home, speed=1.0)
    status, headers, job = lab.call("PUT", f"{URL}/restore?api-version=7.5", body)
    assert (status, "azureStorageBlobContainerUri" in job) == (202, False)
    closed = lab.call("GET", f"{URL}/keys?api-version=7.5")
    assert (closed[0], closed[2]["error"]["code"]) == (503, "ServiceUnavailable")
    assert lab.call("GET", headers["azure-asyncoperation"])[2]["status"] == "InProgress"
    commands.set_clock(lab.home, speed=commands.FAST_SPEED)
    assert wait(lab, headers["azure-asyncoperation"])["status"] == "Succeeded"
    assert lab.call("GET", f"{URL}/keys/later?api-version=7.5")[0] == 404
    assert lab.call("GET", f"{URL}/keys?api-version=7.5", token=lab.token(object_id=who))[0] == 403
    assert lab.call("GET", f"{URL}/keys?api-version=7.5")[0] == 200
