"""Linking, validating and unlinking keys."""

from __future__ import annotations

from typing import Any

import pytest

from drengine.lab.sql import cycle, state


def put(
    world: Any, instance: str, name: str, uri: object, kind: str = "AzureKeyVault"
) -> tuple[int, Any]:
    body = {"properties": {"serverKeyType": kind, "uri": uri}}
    status, answer, _ = world.arm("PUT", f"{world.instance(instance)}/keys/{name}", body)
    return status, answer


def edit_key(world: Any, hsm: str, name: str, **changes: Any) -> None:
    with world.lab.store.transaction() as tx:
        doc = tx.get("hsm.key", f"{hsm}/{name}")
        doc["versions"][-1]["attributes"] |= changes
        tx.put("hsm.key", f"{hsm}/{name}", doc)


def revoke_all(world: Any, hsm: str) -> None:
    with world.lab.store.transaction() as tx:
        for key, _ in list(tx.find("hsm.role", f"{hsm}/")):
            tx.delete("hsm.role", key)


def rows(world: Any, instance: str) -> list[dict[str, Any]]:
    return world.arm("GET", f"{world.instance(instance)}/keys")[1]["value"]


def name_of(uri: str) -> str:
    _, _, host, _, key, version = uri.split("/")
    return f"{host.split('.')[0]}_{key}_{version}"


def test_the_list_ends_with_the_service_managed_key(world: Any) -> None:
    found = rows(world, "sqlmi-a")
    assert [row["kind"] for row in found] == ["azurekeyvault", "azurekeyvault", "servicemanaged"]
    assert "thumbprint" not in found[-1]["properties"]


def test_a_thumbprint_does_not_depend_on_the_host(world: Any) -> None:
    world.copy_hsm("contoso--dr")
    uri = world.key_uri("contoso--dr")
    assert world.link("sqlmi-a", uri)["status"] == "Succeeded"
    old = world.arm(
        "GET", f"{world.instance('sqlmi-a')}/keys/{name_of(world.key_uri('contoso--hsm'))}"
    )[1]
    new = world.arm("GET", f"{world.instance('sqlmi-a')}/keys/{name_of(uri)}")[1]
    assert new["properties"]["thumbprint"] == old["properties"]["thumbprint"]
    assert len(new["properties"]["thumbprint"]) == 40


def test_linking_the_same_key_twice_succeeds_and_keeps_its_date(world: Any) -> None:
    world.copy_hsm("contoso--dr")
    uri = world.key_uri("contoso--dr")
    world.link("sqlmi-a", uri)
    path = f"{world.instance('sqlmi-a')}/keys/{name_of(uri)}"
    first = world.arm("GET", path)[1]
    assert world.link("sqlmi-a", uri)["status"] == "Succeeded"
    assert world.arm("GET", path)[1] == first


def test_the_202_has_both_urls_and_the_api_version_of_the_request(world: Any) -> None:
    uri = world.key_uri("contoso--hsm", "sqlmi-tde-hr")
    body = {"properties": {"serverKeyType": "AzureKeyVault", "uri": uri}}
    path = f"{world.instance('sqlmi-a')}/keys/{name_of(uri)}?api-version=2020-11-01-preview"
    status, answer, headers = world.arm("PUT", path, body)
    assert status == 202
    assert answer["operation"] == "UpsertManagedServerEncryptionKeys"
    assert (
        "/locations/westeurope/managedInstanceKeyAzureAsyncOperation/"
        in headers["azure-asyncoperation"]
    )
    assert "/locations/westeurope/managedInstanceKeyOperationResults/" in headers["location"]
    assert headers["azure-asyncoperation"].endswith("?api-version=2020-11-01-preview")
    assert "retry-after" not in headers
    assert world.arm("GET", headers["location"])[0] == 202
    world.advance(10)
    status, answer, _ = world.arm("GET", headers["location"])
    assert status == 200
    assert answer["properties"]["uri"] == uri


@pytest.mark.parametrize(
    ("name", "uri", "kind", "code"),
    [
        ("wrong", None, "AzureKeyVault", "SecurityAzureKeyVaultUrlNullOrEmpty"),
        ("wrong", "https://a.example.com/keys/k/1", "AzureKeyVault", "AzureKeyVaultInvalidUri"),
        ("wrong", "https://a.managedhsm.azure.net/keys/k/1", "AzureKeyVault", "InvalidKeyName"),
        ("x", "https://x", "ServiceManaged", "InvalidUpsertKeyType"),
        ("x", "https://x", "Other", "InvalidKeyType"),
    ],
)
def test_a_bad_name_or_shape_is_refused_at_once(
    world: Any, name: str, uri: str | None, kind: str, code: str
) -> None:
    before = rows(world, "sqlmi-a")
    status, answer = put(world, "sqlmi-a", name, uri, kind)
    assert status == 400
    assert answer["error"]["code"] == code
    assert rows(world, "sqlmi-a") == before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"enabled": False}, "AzureKeyVaultKeyDisabled"),
        ({"exp": 1}, "AzureKeyVaultInvalidExpirationDate"),
        ({"nbf": 9_999_999_999}, "AzureKeyVaultInvalidExpirationDate"),
    ],
)
def test_a_bad_key_fails_in_the_poll_and_links_nothing(
    world: Any, change: dict[str, Any], code: str
) -> None:
    world.copy_hsm("contoso--dr")
    edit_key(world, "contoso--dr", "sqlmi-tde", **change)
    before = rows(world, "sqlmi-a")
    ended = world.link("sqlmi-a", world.key_uri("contoso--dr"))
    assert (ended["status"], ended["error"]["code"]) == ("Failed", code)
    assert rows(world, "sqlmi-a") == before


def test_a_missing_role_fails_and_names_the_principal(world: Any) -> None:
    world.copy_hsm("contoso--dr")
    revoke_all(world, "contoso--dr")
    ended = world.link("sqlmi-a", world.key_uri("contoso--dr"))
    assert ended["error"]["code"] == "AzureKeyVaultMissingPermissions"
    principal = world.arm("GET", world.instance("sqlmi-a"))[1]["identity"]["principalId"]
    assert principal in ended["error"]["message"]


def test_a_missing_version_fails(world: Any) -> None:
    uri = world.key_uri("contoso--hsm").rsplit("/", 1)[0] + "/" + "0" * 32
    assert world.link("sqlmi-a", uri)["error"]["code"] == "AkvKeyDeleted"


def test_an_unreachable_host_fails_as_an_outage(world: Any) -> None:
    world.copy_hsm("contoso--dr")
    world.wire.down.add("contoso--dr.managedhsm.azure.net")
    assert world.link("sqlmi-a", world.key_uri("contoso--dr"))["error"]["code"] == "AkvKeyDNS"


def test_a_key_without_purge_protection_is_refused_where_that_is_enforced(world: Any) -> None:
    world.copy_hsm("contoso--dr")
    world.set(enforce_recovery_level=True)
    ended = world.link("sqlmi-a", world.key_uri("contoso--dr"))
    assert ended["error"]["code"] == "SecurityInvalidAzureKeyVaultRecoveryLevel"
    assert "CustomizedRecoverable+Purgeable" in ended["error"]["message"]


def test_a_linked_key_is_not_held_to_its_recovery_level_again(world: Any) -> None:
    world.set(enforce_recovery_level=True)
    assert world.protect("sqlmi-a", world.key_uri("contoso--hsm"))["status"] == "Succeeded"
    revalidate = f"{world.instance('sqlmi-a')}/encryptionProtector/current/revalidate"
    assert world.finished("POST", revalidate)["status"] == "Succeeded"


def test_validation_checks_but_links_nothing(world: Any) -> None:
    world.copy_hsm("contoso--dr")
    path = f"{world.instance('sqlmi-a')}/validateAzureKeyVaultEncryptionKey"
    before = rows(world, "sqlmi-a")
    uri = world.key_uri("contoso--dr")
    assert world.finished("POST", path, {"tdeKeyUri": uri})["status"] == "Succeeded"
    revoke_all(world, "contoso--dr")
    assert world.finished("POST", path, {"tdeKeyUri": uri})["status"] == "Failed"
    assert rows(world, "sqlmi-a") == before


def test_the_protector_cannot_be_unlinked(world: Any) -> None:
    name = name_of(world.key_uri("contoso--hsm"))
    status, answer, _ = world.arm("DELETE", f"{world.instance('sqlmi-a')}/keys/{name}")
    assert (status, answer["error"]["code"]) == (409, "AzureKeyVaultKeyInUse")


def test_an_older_key_can_be_unlinked_and_then_is_gone(world: Any) -> None:
    name = name_of(world.key_uri("contoso--hsm", version=0))
    path = f"{world.instance('sqlmi-a')}/keys/{name}"
    assert world.finished("DELETE", path)["status"] == "Succeeded"
    assert world.arm("GET", path)[0] == 404
    assert world.arm("DELETE", path)[0] == 204


def test_a_secondary_keeps_the_material_that_its_primary_uses(world: Any) -> None:
    tde_hr = world.key_uri("contoso--hsm", "sqlmi-tde-hr")
    world.link("sqlmi-b", tde_hr)
    world.protect("sqlmi-b", tde_hr)
    name = name_of(world.key_uri("contoso--hsm"))
    status, answer, _ = world.arm("DELETE", f"{world.instance('sqlmi-b')}/keys/{name}")
    assert (status, answer["error"]["code"]) == (400, "AzureKeyVaultKeyUsedOnGeoPrimary")


def test_a_late_effect_shows_the_key_only_after_its_time(world: Any) -> None:
    world.set(effect_visible_after_ms=900_000)
    world.copy_hsm("contoso--dr")
    uri = world.key_uri("contoso--dr")
    assert world.link("sqlmi-a", uri)["status"] == "Succeeded"
    path = f"{world.instance('sqlmi-a')}/keys/{name_of(uri)}"
    assert world.arm("GET", path)[0] == 404
    world.advance(900)
    assert world.arm("GET", path)[0] == 200


def test_an_unknown_operation_is_a_404(world: Any) -> None:
    uri = world.key_uri("contoso--hsm", "sqlmi-tde-hr")
    body = {"properties": {"serverKeyType": "AzureKeyVault", "uri": uri}}
    _, _, headers = world.arm("PUT", f"{world.instance('sqlmi-a')}/keys/{name_of(uri)}", body)
    url = headers["azure-asyncoperation"]
    guid = url.split("/")[-1].split("?")[0]
    status, answer, _ = world.arm("GET", url.replace(guid, "0" * 8 + guid[8:]))
    assert (status, answer["error"]["code"]) == (404, "OperationIdNotFound")


def test_two_hundred_instances_are_checked_with_two_requests_each(world: Any) -> None:
    with world.lab.store.transaction() as tx:
        source = world.instance("sqlmi-c").lower()
        doc = state.instance(tx, source)
        databases = state.databases(tx, source)
        for number in range(200):
            key = f"{source}-{number:03}"
            tx.put(state.INSTANCES, key, doc | {"group": None, "next_check_ms": tx.now_ms})
            for copy in range(25):
                tx.put(
                    state.DATABASES,
                    f"{key}/databases/db{copy:02}",
                    databases[0][1] | {"name": "hr"},
                )
        now = tx.now_ms
    before = len(world.wire.sent)
    for number in range(200):
        cycle.check_job(world.lab, {"instance": f"{source}-{number:03}", "due_ms": now})
    assert len(world.wire.sent) - before == 400
