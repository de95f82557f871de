"""The whole recovery through drengine's own adapters, judged by the lab's call log."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import load_der_x509_certificate

from drengine.azure.cloud import AzureCloud
from drengine.azure.exchanges import collect_exchanges
from drengine.azure.hsm_keys import from_base64url
from drengine.ceremony.combine import KeySource, combine
from drengine.errors import AzureError
from drengine.lab import commands
from drengine.model.cloud import NewHsm, OperationState, RoleAssignment, StorageTarget
from drengine.model.secret import Secret

TARGET = "contoso--dr"
TARGET_URI = f"https://{TARGET}.managedhsm.azure.net/"
CRYPTO_USER = "21dbd100-6940-42c2-9190-5d6cb909625b"


async def create_target(cloud, status):
    return await cloud.hsms.create_hsm(
        NewHsm(
            resource_group=status["resource_group"],
            name=TARGET,
            location="northeurope",
            tenant=status["tenant"],
            admins=(status["object_id"],),
            purge_protection=True,
            soft_delete_days=90,
            identities=(status["identity"]["id"],),
            tags={"drengine-run": "r-000000000000"},
        )
    )


def restore_blob(status, certificate_der: bytes, folder: Path) -> bytes:
    certificate, out = folder / "exchange.pem", folder / "restore-blob.json"
    pem = load_der_x509_certificate(certificate_der).public_bytes(serialization.Encoding.PEM)
    certificate.write_bytes(pem)
    domain = status["security_domain"]
    keys = [KeySource(Path(key)) for key in domain["keys"][: domain["required"]]]
    combine(Path(domain["file"]), certificate, keys, out)
    return out.read_bytes()


async def test_a_recovery_runs_end_to_end_and_every_change_is_made_once(
    own_lab, sign_in, finish, tmp_path
):
    status = own_lab.status
    commands.disaster(own_lab.home, "purge")
    storage = f"https://{status['storage']['account']}.blob.core.windows.net"
    target = StorageTarget(f"{storage}/{status['storage']['container']}")
    before = own_lab.last_seq()

    with collect_exchanges() as exchanges:
        async with AzureCloud(sign_in(own_lab)) as cloud:
            assert (await cloud.hsms.check_name(TARGET)).available
            assert await cloud.hsms.find("contoso--hsm") is None
            assert await cloud.hsms.has_group(str(status["resource_group"]))
            assert not await cloud.hsms.has_group("contoso-nowhere")
            await read_what_surrounds(cloud, str(status["identity"]["id"]))
            created = await finish(cloud, await create_target(cloud, status))
            assert created.state is OperationState.SUCCEEDED
            resource = await cloud.hsms.get(status["resource_group"], TARGET)
            assert resource is not None
            assert (resource.provisioning_state, resource.activation_status) == (
                "Succeeded",
                "NotActivated",
            )
            assert resource.purge_protection
            assert resource.tags == {"drengine-run": "r-000000000000"}

            hsm = cloud.hsm(resource.uri)
            assert await hsm.upload_status() is None
            exchange_key = await hsm.transfer_key()
            blob = restore_blob(status, exchange_key.certificate_der, tmp_path)
            uploaded = await finish(cloud, await hsm.start_upload(blob))
            assert uploaded.state is OperationState.SUCCEEDED
            again = await hsm.upload_status()
            assert again is not None
            assert again.state is OperationState.SUCCEEDED

            saved = await finish(cloud, await hsm.start_backup(target))
            assert saved.state is OperationState.SUCCEEDED
            assert saved.result.startswith(f"{target.container_url}/mhsm-{TARGET}-")
            folder = status["backup"]["folder"]
            checked = await finish(cloud, await hsm.start_restore_check(target, folder))
            assert checked.state is OperationState.SUCCEEDED, checked
            restored = await finish(cloud, await hsm.start_restore(target, folder))
            assert restored.state is OperationState.SUCCEEDED, restored

            await prove_keys(hsm, status)
            await repoint(cloud, finish)

    assert_sent_once(exchanges, own_lab, before)


async def read_what_surrounds(cloud, identity):
    offer = await cloud.subscription.hsm_offer()
    assert offer.registration == "Registered"
    assert {"northeurope", "westeurope"} <= set(offer.regions)
    assert "francesouth" not in offer.regions
    geographies = await cloud.subscription.geographies()
    assert geographies["northeurope"] == geographies["westeurope"] == "Europe"
    for scope in (identity, identity.partition("/providers/")[0]):
        assert [one.actions for one in await cloud.subscription.permissions(scope)] == [("*",)]
    assert await cloud.subscription.has_identity(identity)
    assert not await cloud.subscription.has_identity(f"{identity}-none")
    elsewhere = identity.replace("/resourceGroups/", "/resourceGroups/none-")
    assert not await cloud.subscription.has_identity(elsewhere)


async def prove_keys(hsm, status):
    assert await hsm.key_names() == ["app-wrap", "doc-sign", "sqlmi-tde", "sqlmi-tde-hr"]
    keys = await hsm.keys()
    wrapping = next(key for key in keys if key.name == "app-wrap")
    secret = b"0123456789abcdef"
    wrapped = await hsm.wrap(wrapping.kid, "RSA-OAEP-256", secret)
    assert await hsm.unwrap(wrapping.kid, "RSA-OAEP-256", wrapped) == secret
    numbers = rsa.RSAPublicNumbers(
        int.from_bytes(from_base64url(wrapping.e), "big"),
        int.from_bytes(from_base64url(wrapping.n), "big"),
    )
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    outside = numbers.public_key().encrypt(secret, oaep)
    assert await hsm.unwrap(wrapping.kid, "RSA-OAEP-256", outside) == secret
    signing = next(key for key in keys if key.name == "doc-sign")
    assert len(await hsm.sign(signing.kid, "ES256", bytes(32))) == 64
    one = RoleAssignment(str(uuid.uuid4()), "/keys/app-wrap", CRYPTO_USER, status["object_id"])
    await hsm.put_role_assignment(one)
    assert one in await hsm.role_assignments()


async def repoint(cloud, finish):
    keys = {key.name: key for key in await cloud.hsm(TARGET_URI).keys()}
    instances = {one.name: one for one in await cloud.sql.instances()}
    standalone = instances["sqlmi-c"]
    key = keys["sqlmi-tde-hr"]
    row = f"{TARGET}_{key.name}_{key.version}"

    tried = await cloud.sql.start_validate(standalone.id, key.kid)
    if tried is not None:
        assert (await finish(cloud, tried)).state is OperationState.SUCCEEDED
    added = await finish(cloud, await cloud.sql.put_key(standalone.id, row, key.kid))
    assert added.state is OperationState.SUCCEEDED, added
    assert row in [one.name for one in await cloud.sql.keys(standalone.id)]
    changed = await finish(cloud, await cloud.sql.put_protector(standalone.id, row))
    assert changed.state is OperationState.SUCCEEDED, changed
    protector = await cloud.sql.protector(standalone.id)
    assert (protector.key_name, protector.uri) == (row, key.kid)
    assert protector.thumbprint
    looked = await cloud.sql.start_reevaluate(standalone.id)
    if looked is not None:
        assert (await finish(cloud, looked)).state is OperationState.SUCCEEDED
    assert await cloud.sql.busy(standalone.id) == []
    for database in await cloud.sql.databases(standalone.id):
        assert await cloud.rows.canary(standalone.fqdn, database.name)
    groups = await cloud.sql.failover_groups(list(instances.values()))
    assert {(group.name, group.role) for group in groups} == {
        ("contoso-fog", "Primary"),
        ("contoso-fog", "Secondary"),
    }


def assert_sent_once(exchanges, lab, before):
    sent = [exchange for exchange in exchanges if exchange.sent]
    ours = Counter(exchange.client_request_id for exchange in sent)
    assert len(sent) >= 9
    assert set(ours.values()) == {1}
    rows = [row for row in commands.log(lab.home, before) if row["authorised"]]
    logged = Counter(
        row["client_request_id"] for row in rows if row["method"] not in ("GET", "HEAD")
    )
    assert {name: logged[name] for name in ours} == dict(ours)
    without_body = [exchange for exchange in sent if not exchange.body_sha256]
    assert all("reevaluate" in exchange.path for exchange in without_body)


async def test_a_container_is_read_with_the_sas_and_with_the_operators_rights(lab, sign_in):
    found = lab.status["storage"]
    url = f"https://{found['account']}.blob.core.windows.net/{found['container']}"
    folder = lab.status["backup"]["folder"]
    async with AzureCloud(sign_in(lab)) as cloud:
        for sas in (None, Secret(found["sas"]), Secret(found["sas"].replace("rcwdl", "rcwd"))):
            target = StorageTarget(url, sas)
            assert await cloud.storage.list_folders(target, "mhsm-contoso--hsm-") == [folder]
            blobs = await cloud.storage.list_blobs(target, f"{folder}/")
            assert blobs
            assert all(blob.name.startswith(folder) and blob.etag for blob in blobs)
            assert await cloud.storage.list_folders(target, "nothing-") == []


async def test_an_hsm_that_does_not_exist_is_a_refusal(lab, sign_in):
    async with AzureCloud(sign_in(lab)) as cloud:
        nobody = cloud.hsm("https://nobody--here.managedhsm.azure.net")
        with collect_exchanges() as exchanges, pytest.raises(AzureError) as caught:
            await nobody.start_backup(StorageTarget("https://a.blob.core.windows.net/c"))
    assert caught.value.status == 404 or caught.value.transient
    assert [e.status for e in exchanges if e.host.startswith("nobody")][-1] in (0, 404)
