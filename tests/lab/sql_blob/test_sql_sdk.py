"""The lab's SQL Managed Instance driven by azure-mgmt-sql, sync and aio, over HTTPS."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity.aio import ClientSecretCredential
from azure.mgmt.sql.aio import SqlManagementClient

from drengine.lab import commands
from drengine.lab.client import LoopbackClient

GROUP = "contoso-dr"


def key_body(uri: str) -> dict[str, Any]:
    return {"properties": {"serverKeyType": "AzureKeyVault", "uri": uri}}


def key_name(uri: str) -> str:
    _, _, host, _, key, version = uri.split("/")
    return f"{host.split('.')[0]}_{key}_{version}"


def protector_body(uri: str) -> dict[str, Any]:
    return {"properties": {"serverKeyType": "AzureKeyVault", "serverKeyName": key_name(uri)}}


def current_uri(client: Any, instance: str) -> str:
    return str(
        client.managed_instance_encryption_protectors.get(GROUP, instance, "current").properties.uri
    )


def canary(lab: Any, client: Any, instance: str, database: str) -> tuple[int, Any]:
    host = client.managed_instances.get(GROUP, instance).properties.fully_qualified_domain_name
    port = int(lab.status["proxy"].rsplit(":", 1)[1])
    answer = LoopbackClient(port, lab.home / "ca.pem").request(
        "GET", f"https://{host}/databases/{database}/canary"
    )
    return answer.status, json.loads(answer.body)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the lab did not get there in time"
        time.sleep(0.1)


def states(client: Any, instance: str) -> set[str]:
    rows = client.managed_databases.list_by_instance(GROUP, instance)
    return {getattr(row.properties.status, "value", row.properties.status) for row in rows}


def test_instances_keys_and_databases_are_listed(lab: Any) -> None:
    with lab.sql() as client:
        assert [one.name for one in client.managed_instances.list()] == [
            "sqlmi-a",
            "sqlmi-b",
            "sqlmi-c",
        ]
        rows = list(client.managed_instance_keys.list_by_instance(GROUP, "sqlmi-a"))
        assert rows[-1].name == "ServiceManaged"
        assert len(rows) == 4
        assert states(client, "sqlmi-a") == {"Online"}
        assert list(client.managed_databases.list_inaccessible_by_instance(GROUP, "sqlmi-a")) == []
        found = client.managed_database_transparent_data_encryption.get(
            GROUP, "sqlmi-a", "orders", "current"
        )
        assert found.properties.state == "Enabled"


def test_a_key_is_validated_linked_used_and_unlinked(lab: Any) -> None:
    with lab.sql() as client:
        before = current_uri(client, "sqlmi-c")
        uri = next(
            row.properties.uri
            for row in client.managed_instance_keys.list_by_instance(GROUP, "sqlmi-a")
            if row.properties.uri
        )
        client.managed_instances.begin_validate_azure_key_vault_encryption_key(
            GROUP, "sqlmi-c", {"tdeKeyUri": uri}
        ).result()
        keys, protectors = (
            client.managed_instance_keys,
            client.managed_instance_encryption_protectors,
        )
        linked = keys.begin_create_or_update(
            GROUP, "sqlmi-c", key_name(uri), key_body(uri)
        ).result()
        assert len(linked.properties.thumbprint) == 40
        rows = canary(lab, client, "sqlmi-c", "hr")
        assert rows[0] == 200
        changed = protectors.begin_create_or_update(
            GROUP, "sqlmi-c", "current", protector_body(uri)
        ).result()
        assert changed.properties.uri == uri
        protectors.begin_revalidate(GROUP, "sqlmi-c", "current").result()
        assert canary(lab, client, "sqlmi-c", "hr") == rows
        with pytest.raises(HttpResponseError) as caught:
            keys.begin_delete(GROUP, "sqlmi-c", key_name(uri)).result()
        assert caught.value.error.code == "AzureKeyVaultKeyInUse"
        protectors.begin_create_or_update(
            GROUP, "sqlmi-c", "current", protector_body(before)
        ).result()
        keys.begin_delete(GROUP, "sqlmi-c", key_name(uri)).result()
        with pytest.raises(ResourceNotFoundError):
            keys.get(GROUP, "sqlmi-c", key_name(uri))
        assert canary(lab, client, "sqlmi-c", "hr") == rows


def test_a_failure_inside_a_poll_raises_with_its_code(lab: Any) -> None:
    with lab.sql() as client:
        uri = current_uri(client, "sqlmi-c")
        client.managed_instance_keys.begin_create_or_update(
            GROUP, "sqlmi-a", key_name(uri), key_body(uri)
        ).result()
        with pytest.raises(HttpResponseError) as caught:
            client.managed_instance_encryption_protectors.begin_create_or_update(
                GROUP, "sqlmi-a", "current", protector_body(uri)
            ).result()
        assert caught.value.error.code == "SameKeyMaterialNotFoundOnRemoteServer"


def test_an_operation_is_attached_to_again_by_its_token(lab: Any) -> None:
    with lab.sql() as client:
        uri = current_uri(client, "sqlmi-c")
        args = (GROUP, "sqlmi-b", key_name(uri), key_body(uri))
        token = client.managed_instance_keys.begin_create_or_update(*args).continuation_token()
        again = client.managed_instance_keys.begin_create_or_update(*args, continuation_token=token)
        assert again.result().properties.uri == uri


def test_a_failover_swaps_the_roles_of_both_regions(lab: Any) -> None:
    with lab.sql() as client:
        groups = client.instance_failover_groups

        def role(region: str) -> str:
            found = groups.get(GROUP, region, "contoso-fog").properties.replication_role
            return str(getattr(found, "value", found))

        assert (role("westeurope"), role("northeurope")) == ("Primary", "Secondary")
        groups.begin_failover(GROUP, "northeurope", "contoso-fog").result()
        assert (role("westeurope"), role("northeurope")) == ("Secondary", "Primary")
        groups.begin_failover(GROUP, "westeurope", "contoso-fog").result()
        assert (role("westeurope"), role("northeurope")) == ("Primary", "Secondary")
        assert [one.name for one in groups.list_by_location(GROUP, "westeurope")] == ["contoso-fog"]


async def test_the_asynchronous_client_works_as_well(lab: Any) -> None:
    async with (
        ClientSecretCredential(*lab.sign_in, **lab.transport) as credential,
        SqlManagementClient(
            credential, lab.status["subscription"], polling_interval=0.05, **lab.transport
        ) as client,
    ):
        uri = (
            await client.managed_instance_encryption_protectors.get(GROUP, "sqlmi-a", "current")
        ).properties.uri
        poller = await client.managed_instance_keys.begin_create_or_update(
            GROUP, "sqlmi-a", key_name(uri), key_body(uri)
        )
        assert (await poller.result()).properties.uri == uri
        names = [
            one.name async for one in client.managed_databases.list_by_instance(GROUP, "sqlmi-a")
        ]
        assert names == ["orders", "payments"]


def test_a_lost_hsm_takes_the_databases_with_it(start: Callable[..., Any]) -> None:
    lab = start()
    with lab.sql() as client:
        assert canary(lab, client, "sqlmi-c", "hr")[0] == 200
        commands.disaster(lab.home, "purge")
        assert canary(lab, client, "sqlmi-c", "hr")[0] == 503
        commands.set_clock(lab.home, advance_seconds=650)
        wait_for(lambda: states(client, "sqlmi-c") == {"Inaccessible"})
        rows = list(client.managed_databases.list_inaccessible_by_instance(GROUP, "sqlmi-c"))
        found = rows[0].properties.extended_accessibility_info
        assert found.inaccessibility_reason_kind == "TransparentDataEncryption"
        assert found.inaccessibility_reason_tde_key_uri == current_uri(client, "sqlmi-c")
        with pytest.raises(HttpResponseError) as caught:
            client.managed_instances.begin_reevaluate_inaccessible_database_state(
                GROUP, "sqlmi-c"
            ).result()
        assert caught.value.error.code == "ManagedInstanceNoConditionToMakeDatabaseAccessible"
        with pytest.raises(HttpResponseError) as caught:
            client.instance_failover_groups.begin_failover(
                GROUP, "northeurope", "contoso-fog"
            ).result()
        assert caught.value.status_code in {409, 200}


def test_a_source_without_purge_protection_is_refused_by_default(start: Callable[..., Any]) -> None:
    lab = start()
    with lab.sql() as client:
        uri = current_uri(client, "sqlmi-c")
        with pytest.raises(HttpResponseError) as caught:
            client.managed_instance_keys.begin_create_or_update(
                GROUP, "sqlmi-a", key_name(uri), key_body(uri)
            ).result()
        assert caught.value.error.code == "SecurityInvalidAzureKeyVaultRecoveryLevel"


def test_the_lab_goes_on_after_a_kill_in_the_middle_of_a_switch(start: Callable[..., Any]) -> None:
    lab = start(enforce_recovery_level=False)
    with lab.sql() as client:
        rows = canary(lab, client, "sqlmi-c", "hr")
        uri = current_uri(client, "sqlmi-a")
        keys, protectors = (
            client.managed_instance_keys,
            client.managed_instance_encryption_protectors,
        )
        keys.begin_create_or_update(GROUP, "sqlmi-c", key_name(uri), key_body(uri)).result()
        poller = protectors.begin_create_or_update(
            GROUP, "sqlmi-c", "current", protector_body(uri), polling=False
        )
        poller.wait()
        os.kill(int(commands.status(lab.home)["pid"]), signal.SIGKILL)
    wait_for(lambda: not commands.status(lab.home)["running"])
    again = type(lab)(lab.home, commands.up(lab.home))
    with again.sql() as client:
        wait_for(lambda: current_uri(client, "sqlmi-c") == uri)
        assert canary(again, client, "sqlmi-c", "hr") == rows
