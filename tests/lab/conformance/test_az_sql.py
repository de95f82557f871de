"""Managed instances, failover groups, storage and private networks, by the unmodified az."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

HSM = "contoso--hsm"
ZONE = "privatelink.managedhsm.azure.net"


@pytest.fixture(scope="module")
def group(lab: Any) -> str:
    return f"-g {lab.status['resource_group']}"


@pytest.fixture(scope="module")
def account(lab: Any) -> str:
    return f"--account-name {lab.status['storage']['account']}"


def test_instances_and_their_keys(az: Any, group: str) -> None:
    mi = f"{group} --mi sqlmi-c"
    assert len(az("sql mi list")) == 3
    assert az(f"sql mi show {group} -n sqlmi-c")["state"] == "Ready"
    protector = az(f"sql mi tde-key show {mi}")
    kid = protector["uri"]
    assert protector["serverKeyType"] == "AzureKeyVault"
    assert len(az(f"sql mi key list {mi}")) == 2
    thumbprint = az(f"sql mi key show {mi} -k {kid}")["thumbprint"]
    refused = az(f"sql mi key delete {mi} -k {kid}", code=1)
    assert "AzureKeyVaultKeyInUse" in refused.err
    assert az(f"sql mi tde-key set {mi} -t ServiceManaged")["serverKeyType"] == "ServiceManaged"
    az(f"sql mi key delete {mi} -k {kid}")
    refused = az(f"sql mi key create {mi} -k {kid}", code=1)
    assert "SecurityInvalidAzureKeyVaultRecoveryLevel" in refused.err
    az(f"keyvault update-hsm --hsm-name {HSM} {group} --enable-purge-protection true")
    assert az(f"sql mi key create {mi} -k {kid}")["thumbprint"] == thumbprint
    assert az(f"sql mi tde-key set {mi} -t AzureKeyVault -k {kid}")["uri"] == kid
    rotates = f"sql mi tde-key set {mi} -t AzureKeyVault -k {kid} --auto-rotation-enabled true"
    assert az(rotates)["autoRotationEnabled"] is True


def test_databases(lab: Any, az: Any, group: str) -> None:
    names = {one["name"] for one in az(f"sql midb list {group} --mi sqlmi-a")}
    assert names == {"orders", "payments"}
    assert az(f"sql midb show {group} --mi sqlmi-a -n orders")["status"] == "Online"
    sub, name = lab.status["subscription"], lab.status["resource_group"]
    base = f"https://management.azure.com/subscriptions/{sub}/resourceGroups/{name}/providers"
    url = f"{base}/Microsoft.Sql/managedInstances/sqlmi-c"
    kid = az(f"sql mi tde-key show {group} --mi sqlmi-c")["uri"]
    tail = "validateAzureKeyVaultEncryptionKey?api-version=2024-11-01-preview"
    az(f"rest --method post --url {url}/{tail} --body", json.dumps({"tdeKeyUri": kid}))
    tail = "reevaluateInaccessibleDatabaseState?api-version=2024-11-01-preview"
    az(f"rest --method post --url {url}/{tail}")


def test_a_failover_group_fails_over_and_is_made_anew(az: Any, group: str) -> None:
    fog = f"sql instance-failover-group {{}} {group} -n contoso-fog -l {{}}"
    assert az(fog.format("show", "westeurope"))["replicationRole"] == "Primary"
    az(fog.format("set-primary", "northeurope"))
    assert az(fog.format("show", "northeurope"))["replicationRole"] == "Primary"
    az(fog.format("set-primary", "westeurope"), "--allow-data-loss")
    az(fog.format("update", "westeurope"), "--failover-policy", "Manual")
    az(fog.format("delete", "westeurope"))
    refused = az(
        f"sql instance-failover-group create {group} -n other --mi sqlmi-a --partner-mi sqlmi-b"
        f" --partner-resource-group {group.removeprefix('-g ')}",
        code=1,
    )
    assert "GeoDrSecondaryInstanceNotEmpty" in refused.err


def test_containers_and_blobs_with_every_kind_of_credential(
    lab: Any, az: Any, group: str, account: str, tmp_path: Path
) -> None:
    file, out = tmp_path / "up", tmp_path / "down"
    file.write_text("content")
    login = f"{account} --auth-mode login"
    name = lab.status["storage"]["account"]
    key = az(f"storage account keys list {group} -n {name}")[0]["value"]
    assert az(f"storage container list {account} --account-key", key)
    assert az(f"storage container create -n made {login}")["created"] is True
    assert az(f"storage container exists -n made {login}")["exists"] is True
    assert az(f"storage container show -n made {login}")["name"] == "made"
    # a user's delegation lasts seven days at most, and the lab's clock runs ahead
    until = datetime.now(UTC) + timedelta(days=6)
    times = f"--permissions racwdl --expiry {until:%Y-%m-%dT%H:%MZ}"
    delegated = az(f"storage container generate-sas -n made {login} --as-user {times}")
    shared = az(f"storage container generate-sas -n made {account} {times} --account-key", key)
    az(f"storage blob upload {account} -c made -n a/one -f {file} --sas-token", shared)
    az(f"storage blob upload {account} -c made -n a/two -f {file} --account-key", key)
    listed = az(f"storage blob list {account} -c made --sas-token", delegated)
    assert [one["name"] for one in listed] == ["a/one", "a/two"]
    folders = az(f"storage blob list {login} -c made --delimiter /")
    assert [one["name"] for one in folders] == ["a/"]
    assert az(f"storage blob show {login} -c made -n a/one")["properties"]["contentLength"] == 7
    assert az(f"storage blob exists {login} -c made -n a/none")["exists"] is False
    az(f"storage blob download {login} -c made -n a/one -f {out}")
    assert out.read_text() == "content"
    copied = az(
        f"storage blob copy start {login} --destination-container made --destination-blob copy"
        " --source-container made --source-blob a/one"
    )
    assert copied["copy_status"] == "success"
    az(f"storage blob metadata update {login} -c made -n copy --metadata a=b")
    assert az(f"storage blob metadata show {login} -c made -n copy") == {"a": "b"}
    az(f"storage blob lease acquire {login} -c made -b copy --lease-duration -1")
    refused = az(f"storage blob delete {login} -c made -n copy", code=1)
    assert "LeaseIdMissing" in refused.err
    az(f"storage blob lease break {login} -c made -b copy --lease-break-period 0")
    az(f"storage blob delete {login} -c made -n copy")
    az(
        f"storage blob generate-sas {account} -c made -n a/one {times.replace('l', '')} --account-key",
        key,
    )
    refused = az(f"storage blob list {account} -c made --sas-token", "sv=2022&sig=x", code=1)
    assert "Authentication failure" in refused.err
    az(f"storage container delete -n made {login}")


def test_a_blob_role_is_given_by_resource_manager(lab: Any, az: Any) -> None:
    status = lab.status
    scope = (
        f"/subscriptions/{status['subscription']}/resourceGroups/{status['resource_group']}"
        f"/providers/Microsoft.Storage/storageAccounts/{status['storage']['account']}"
    )
    who = "--assignee-object-id 8a6e1c43-6b0c-4f5f-9a0f-2d7f7d0b7f11"
    role = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
    az(
        f"role assignment create --scope {scope} --role {role} {who}"
        " --assignee-principal-type ServicePrincipal"
    )
    assert len(az(f"role assignment list --scope {scope}")) == 1


def test_a_private_endpoint_is_made_named_and_judged(lab: Any, az: Any, group: str) -> None:
    sub, name = lab.status["subscription"], lab.status["resource_group"]
    hsm = (
        f"/subscriptions/{sub}/resourceGroups/{name}/providers/Microsoft.KeyVault/managedHSMs/{HSM}"
    )
    at = f"keyvault private-endpoint-connection {{}} --hsm-name {HSM} {group}"
    assert az(f"keyvault private-link-resource list --hsm-name {HSM} {group}")
    az(
        f"network vnet create {group} -n hub -l westeurope --address-prefix 10.200.0.0/16"
        " --subnet-name endpoints --subnet-prefixes 10.200.0.0/24"
    )
    az(
        f"network private-endpoint create {group} -n pe -l westeurope --vnet-name hub"
        f" --subnet endpoints --group-id managedhsm --connection-name pec"
        f" --private-connection-resource-id {hsm}"
    )
    assert az(f"network private-endpoint show {group} -n pe")["provisioningState"] == "Succeeded"
    az(f"network private-dns zone create {group} -n {ZONE}")
    az(f"network private-dns link vnet create {group} -n hub -z {ZONE} -v hub -e false")
    az(
        f"network private-endpoint dns-zone-group create {group} --endpoint-name pe -n default"
        f" --private-dns-zone {ZONE} --zone-name hsm"
    )
    records = az(f"network private-dns record-set a list {group} -z {ZONE}")
    assert [(one["name"], one["aRecords"][0]["ipv4Address"]) for one in records] == [
        (HSM, "10.200.0.4")
    ]
    # the recorded service names the connections of a list by their ids only
    assert [one["id"].rsplit("/", 1)[1] for one in az(at.format("list"))] == ["pec"]
    assert az(at.format("reject") + " -n pec --description no")["name"] == "pec"
    az(at.format("approve") + " -n pec --description yes")
    state = az(at.format("show") + " -n pec")["privateLinkServiceConnectionState"]
    assert (state["status"], state["description"]) == ("Approved", "yes")
    az(at.format("delete") + " -n pec")
    assert az(at.format("list")) == []
    az(f"network private-endpoint delete {group} -n pe")


def test_groups_and_identities(az: Any, group: str) -> None:
    name = group.removeprefix("-g ")
    assert az(f"group show -n {name}")["name"] == name
    assert [one["name"] for one in az("group list")] == [name]
    assert az("group exists -n other") is False
    assert az("group create -n other -l uksouth")["location"] == "uksouth"
    assert az("identity list")[0]["name"] == "contoso-dr-identity"
    assert az(f"identity show {group} -n contoso-dr-identity")["principalId"]
    assert az("storage account list")[0]["name"] == "contoso-backups"
