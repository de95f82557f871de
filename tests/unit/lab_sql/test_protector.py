"""Setting the protector: order in a group, one change at a time, what is refused."""

from __future__ import annotations

from typing import Any

from drengine.lab.hsm import roles
from drengine.lab.sql import state


def current(world: Any, instance: str) -> dict[str, Any]:
    return world.arm("GET", f"{world.instance(instance)}/encryptionProtector/current")[1]


def body_for(uri: str, *, rotates: bool = False) -> dict[str, Any]:
    _, _, host, _, key, version = uri.split("/")
    name = f"{host.split('.')[0]}_{key}_{version}"
    return {
        "properties": {
            "serverKeyName": name,
            "serverKeyType": "AzureKeyVault",
            "autoRotationEnabled": rotates,
        }
    }


def path(world: Any, instance: str) -> str:
    return f"{world.instance(instance)}/encryptionProtector/current"


def test_the_primary_may_not_use_material_that_the_secondary_lacks(world: Any) -> None:
    uri = world.key_uri("contoso--hsm", "sqlmi-tde-hr")
    world.link("sqlmi-a", uri)
    before = current(world, "sqlmi-a")
    ended = world.protect("sqlmi-a", uri)
    assert ended["status"] == "Failed"
    assert ended["error"]["code"] == "SameKeyMaterialNotFoundOnRemoteServer"
    assert "sqlmi-b" in ended["error"]["message"]
    assert uri in ended["error"]["message"]
    assert current(world, "sqlmi-a") == before
    world.link("sqlmi-b", uri)
    assert world.protect("sqlmi-a", uri)["status"] == "Succeeded"


def test_auto_rotation_needs_the_same_uri_on_the_secondary(world: Any) -> None:
    world.copy_hsm("contoso--dr")
    uri = world.key_uri("contoso--dr")
    world.link("sqlmi-a", uri)
    ended = world.finished("PUT", path(world, "sqlmi-a"), body_for(uri, rotates=True))
    assert ended["error"]["code"] == "SameKeyUriNotFoundOnRemoteServer"
    assert world.protect("sqlmi-a", uri)["status"] == "Succeeded"


def test_a_key_that_is_not_linked_is_refused_at_once(world: Any) -> None:
    body = body_for(world.key_uri("contoso--hsm", "sqlmi-tde-hr"))
    status, answer, _ = world.arm("PUT", path(world, "sqlmi-a"), body)
    assert (status, answer["error"]["code"]) == (404, "ServerKeyNotFound")


def test_a_second_change_is_refused_while_one_runs(world: Any) -> None:
    uri = world.key_uri("contoso--hsm", "sqlmi-tde")
    world.link("sqlmi-c", uri)
    assert world.arm("PUT", path(world, "sqlmi-c"), body_for(uri))[0] == 202
    status, answer, _ = world.arm("PUT", path(world, "sqlmi-c"), body_for(uri))
    assert (status, answer["error"]["code"]) == (409, "EncryptionProtectorChangeInProgress")
    world.advance(200)
    assert world.arm("PUT", path(world, "sqlmi-c"), body_for(uri))[0] == 202


def test_a_change_takes_its_time(world: Any) -> None:
    uri = world.key_uri("contoso--hsm", "sqlmi-tde")
    world.link("sqlmi-c", uri)
    _, _, headers = world.arm("PUT", path(world, "sqlmi-c"), body_for(uri))
    world.advance(100)
    assert world.arm("GET", headers["azure-asyncoperation"])[1]["status"] == "InProgress"
    assert current(world, "sqlmi-c")["properties"]["uri"] != uri
    world.advance(10)
    assert world.arm("GET", headers["azure-asyncoperation"])[1]["status"] == "Succeeded"
    assert current(world, "sqlmi-c")["properties"]["uri"] == uri


def test_a_change_with_inaccessible_databases_can_be_refused(world: Any) -> None:
    world.kill_hsm()
    world.advance(700)
    world.copy_hsm("contoso--dr")
    uri = world.key_uri("contoso--dr", "sqlmi-tde-hr")
    world.link("sqlmi-c", uri)
    world.set(protector_put_when_inaccessible="CMKOperationNotAllowed")
    status, answer, _ = world.arm("PUT", path(world, "sqlmi-c"), body_for(uri))
    assert (status, answer["error"]["code"]) == (400, "CMKOperationNotAllowed")


def test_after_a_reevaluation_the_refused_change_is_accepted(world: Any) -> None:
    world.kill_hsm()
    world.advance(700)
    world.copy_hsm("contoso--dr")
    uri = world.key_uri("contoso--dr", "sqlmi-tde-hr")
    world.link("sqlmi-c", uri)
    world.set(protector_put_when_inaccessible="CMKOperationNotAllowed")
    again = f"{world.instance('sqlmi-c')}/reevaluateInaccessibleDatabaseState"
    assert world.finished("POST", again)["status"] == "Succeeded"
    assert world.protect("sqlmi-c", uri)["status"] == "Succeeded"
    assert world.canary("sqlmi-c", "hr")[0] == 200


def test_a_change_alone_brings_databases_back_where_that_is_so(world: Any) -> None:
    world.kill_hsm()
    world.advance(4000)
    world.copy_hsm("contoso--dr")
    uri = world.key_uri("contoso--dr", "sqlmi-tde-hr")
    world.link("sqlmi-c", uri)
    world.set(reevaluate_needed_after_protector=False)
    assert world.protect("sqlmi-c", uri)["status"] == "Succeeded"
    assert set(world.statuses("sqlmi-c").values()) == {"Online"}


def test_the_service_managed_key_works_and_is_no_way_out_of_an_outage(world: Any) -> None:
    before = world.canary("sqlmi-c", "hr")[1]
    body = {"properties": {"serverKeyName": "ServiceManaged", "serverKeyType": "ServiceManaged"}}
    assert world.finished("PUT", path(world, "sqlmi-c"), body)["status"] == "Succeeded"
    assert current(world, "sqlmi-c")["kind"] == "servicemanaged"
    world.kill_hsm()
    world.advance(2000)
    assert world.canary("sqlmi-c", "hr")[1] == before
    status, answer, _ = world.arm("PUT", path(world, "sqlmi-a"), body)
    assert (status, answer["error"]["code"]) == (400, "CMKOperationNotAllowed")


def test_revalidation_says_whether_the_protector_can_be_used(world: Any) -> None:
    revalidate = path(world, "sqlmi-c") + "/revalidate"
    assert world.finished("POST", revalidate)["status"] == "Succeeded"
    world.kill_hsm()
    assert world.finished("POST", revalidate)["error"]["code"] == "AkvKeyDeleted"


def test_an_instance_without_an_identity_is_refused(world: Any) -> None:
    with world.lab.store.transaction() as tx:
        key = world.instance("sqlmi-c").lower()
        doc = state.instance(tx, key)
        doc["identity"] |= {"type": "None", "principal_id": None}
        tx.put(state.INSTANCES, key, doc)
    uri = world.key_uri("contoso--hsm")
    name = body_for(uri)["properties"]["serverKeyName"]
    body = {"properties": {"serverKeyType": "AzureKeyVault", "uri": uri}}
    status, answer, _ = world.arm("PUT", f"{world.instance('sqlmi-c')}/keys/{name}", body)
    assert (status, answer["error"]["code"]) == (400, "AzureKeyVaultNoServerIdentity")


def test_a_user_assigned_identity_is_used_when_it_is_primary(world: Any) -> None:
    identity = f"{world.instance('x').split('/providers/')[0]}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uami"
    with world.lab.store.transaction() as tx:
        tx.put(
            "arm.identity",
            identity.lower(),
            {"id": identity, "principalId": "uami-oid", "clientId": "uami-app"},
        )
    body = {
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}},
        "properties": {"primaryUserAssignedIdentityId": identity},
    }
    assert world.finished("PATCH", world.instance("sqlmi-c"), body)["status"] == "Succeeded"
    shown = world.arm("GET", world.instance("sqlmi-c"))[1]
    assert shown["properties"]["primaryUserAssignedIdentityId"] == identity
    assert shown["identity"]["userAssignedIdentities"][identity]["principalId"] == "uami-oid"
    assert world.canary("sqlmi-c", "hr")[0] == 503
    with world.lab.store.transaction() as tx:
        roles.assign(
            tx,
            "contoso--hsm",
            principal_id="uami-oid",
            definition=roles.SERVICE_ENCRYPTION_USER,
            scope="/keys",
            immediate=True,
        )
    world.advance(700)  # a check may have seen the databases locked in between
    assert world.canary("sqlmi-c", "hr")[0] == 200
