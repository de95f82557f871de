"""The official recovery procedure and the life of a HSM, by the unmodified az."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from drengine.lab import commands

HSM = "contoso--hsm"
NEW = "contoso--dr"


@pytest.fixture(scope="module")
def group(lab: Any) -> str:
    return str(lab.status["resource_group"])


@pytest.fixture(scope="module")
def storage(lab: Any) -> list[str]:
    """Where backups lie, as options; the token comes last."""
    found = lab.status["storage"]
    names = f"--storage-account-name {found['account']} --blob-container-name {found['container']}"
    return [*names.split(), "--storage-container-SAS-token", found["sas"]]


def test_the_program_signs_in_and_asks(lab: Any, az: Any, az_binary: str) -> None:
    """The real executable, in the environment of `lab exec`, with a fresh profile."""
    env = {**commands.env(lab.home), "AZURE_CONFIG_DIR": str(lab.home / "fresh-profile")}
    login = 'az login --service-principal -u "$AZURE_CLIENT_ID" -p "$AZURE_CLIENT_SECRET"'
    script = f'{login} --tenant "$AZURE_TENANT_ID" && az keyvault list --resource-type hsm'
    path = f"{Path(az_binary).parent}:{os.environ['PATH']}"
    before = lab.last_seq()
    done = subprocess.run(
        ["sh", "-c", script], env={**env, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert HSM in done.stdout
    az.recorder.add_calls("az login --service-principal -u -p --tenant", az.calls(before), 0)


def test_the_lab_has_signed_in_already(az: Any) -> None:
    assert az("account show")["environmentName"] == "AzureCloud"
    assert [one["name"] for one in az("keyvault list --resource-type hsm")] == [HSM]
    assert [one["name"] for one in az("keyvault list")] == [HSM]


def test_the_official_procedure_runs_from_start_to_end(
    lab: Any, az: Any, group: str, storage: list[str], tmp_path: Path
) -> None:
    status = lab.status
    kids = {one["kid"] for one in az(f"keyvault key list --hsm-name {HSM}")}
    commands.disaster(lab.home, "hsm-purged")
    assert az(f"keyvault check-name --name {HSM} --resource-type hsm")["nameAvailable"] is True
    made = az(
        f"keyvault create --hsm-name {NEW} -g {group} -l northeurope --retention-days 7"
        f" --administrators {status['object_id']}"
    )
    assert made["properties"]["securityDomainProperties"]["activationStatus"] == "NotActivated"
    az(f"keyvault wait-hsm --hsm-name {NEW} -g {group} --created")
    domain, exchange = status["security_domain"], tmp_path / "exchange.cer"
    blob = tmp_path / "restore.json"
    az(f"keyvault security-domain init-recovery --hsm-name {NEW} --sd-exchange-key {exchange}")
    az(
        f"keyvault security-domain restore-blob --sd-exchange-key {exchange}"
        f" --sd-file {domain['file']} --sd-file-restore-blob {blob} --sd-wrapping-keys",
        *domain["keys"][: domain["required"]],
    )
    done = az(f"keyvault security-domain upload --hsm-name {NEW} --sd-file {blob} --restore-blob")
    assert done == {"status": "Success", "statusDetails": "The resource is active."}
    done = az(f"keyvault security-domain wait --hsm-name {NEW} --target-operation upload")
    assert done["status"] == "Success"
    folder = az(f"keyvault backup start --hsm-name {NEW}", *storage)["folderUrl"]
    assert f"/mhsm-{NEW}-" in folder
    source = status["backup"]["folder"]
    az(f"keyvault restore start --hsm-name {NEW} --backup-folder {source}", *storage)
    found = {one["kid"] for one in az(f"keyvault key list --hsm-name {NEW}")}
    assert found == {kid.replace(HSM, NEW) for kid in kids}


def test_one_key_comes_back_from_a_full_backup(lab: Any, az: Any, storage: list[str]) -> None:
    role = ["--role", "Managed HSM Crypto Officer", "--assignee-object-id"]
    az(
        f"keyvault role assignment create --hsm-name {NEW} --scope /",
        *role,
        lab.status["object_id"],
    )
    az(f"keyvault key delete --hsm-name {NEW} --name app-wrap")
    az(f"keyvault key purge --hsm-name {NEW} --name app-wrap")
    source = lab.status["backup"]["folder"]
    az(
        f"keyvault restore start --hsm-name {NEW} --backup-folder {source} --key-name app-wrap",
        *storage,
    )
    assert az(f"keyvault key show --hsm-name {NEW} --name app-wrap")["key"]["kty"] == "RSA-HSM"


def test_a_security_domain_is_downloaded_anew(lab: Any, az: Any, tmp_path: Path) -> None:
    file = tmp_path / "domain.json"
    az(
        f"keyvault security-domain download --hsm-name {NEW} --sd-quorum 2"
        f" --security-domain-file {file} --sd-wrapping-keys",
        *lab.status["security_domain"]["certificates"],
    )
    assert json.loads(file.read_text())["SharedKeys"]["required"] == 2


def test_settings_are_read_and_changed(az: Any) -> None:
    name = "AllowKeyManagementOperationsThroughARM"
    assert az(f"keyvault setting list --hsm-name {NEW}")[0]["value"] == "false"
    az(f"keyvault setting update --hsm-name {NEW} --name {name} --value true")
    assert az(f"keyvault setting show --hsm-name {NEW} --name {name}")["value"] == "true"


def test_a_second_region_comes_and_goes(az: Any, group: str) -> None:
    at = f"--hsm-name {NEW} -g {group}"
    refused = az(f"keyvault region add {at} --region testregion", code=1)
    assert "Invalid region name: testregion" in refused.err
    az(f"keyvault region add {at} --region uksouth")
    found = az(f"keyvault region list {at}")
    assert [(one["name"], one["isPrimary"]) for one in found] == [
        ("northeurope", True),
        ("uksouth", False),
    ]
    refused = az(f"keyvault delete {at}", code=1)
    assert "extended to regions (uksouth)" in refused.err
    az(f"keyvault region remove {at} --region uksouth")
    assert len(az(f"keyvault region list {at}")) == 1


def test_the_firewall_lets_in_whom_it_lists(az: Any, group: str) -> None:
    at = f"--hsm-name {NEW} -g {group}"
    az(f"keyvault update-hsm {at} --default-action Deny --bypass AzureServices")
    refused = az(f"keyvault key list --hsm-name {NEW}", code=1)
    assert "caller is not a trusted service" in refused.err
    az(f"keyvault network-rule add {at} --ip-address 203.0.113.10/32")
    assert len(az(f"keyvault network-rule list {at}")["ipRules"]) == 1
    assert az(f"keyvault key list --hsm-name {NEW}")
    az(f"keyvault network-rule remove {at} --ip-address 203.0.113.10/32")
    az(f"keyvault update-hsm {at} --default-action Allow")


def test_an_identity_is_attached(lab: Any, az: Any, group: str) -> None:
    identity = lab.status["identity"]["id"]
    az(f"keyvault update-hsm --hsm-name {NEW} -g {group} --mi-user-assigned", identity)
    attached = az(f"keyvault show --hsm-name {NEW} -g {group}")["identity"]
    assert list(attached["userAssignedIdentities"]) == [identity]
    found = lab.status["storage"]
    done = az(
        f"keyvault backup start --hsm-name {NEW} --use-managed-identity true"
        f" --storage-account-name {found['account']} --blob-container-name {found['container']}"
    )
    assert done["status"] == "Succeeded"


def test_a_hsm_is_deleted_recovered_and_purged(az: Any, group: str) -> None:
    az(f"keyvault delete --hsm-name {NEW} -g {group}")
    assert [one["name"] for one in az("keyvault list-deleted --resource-type hsm")] == [NEW]
    assert az(f"keyvault show-deleted --hsm-name {NEW} -l northeurope")["name"] == NEW
    taken = az(f"keyvault check-name --name {NEW} --resource-type hsm")
    assert taken["nameAvailable"] is False
    az(f"keyvault recover --hsm-name {NEW} -l northeurope")
    back = az(f"keyvault show --hsm-name {NEW} -g {group}")
    assert back["properties"]["securityDomainProperties"]["activationStatus"] == "Active"
    az(f"keyvault delete --hsm-name {NEW}")
    az(f"keyvault purge --hsm-name {NEW}")
    assert az("keyvault list-deleted --resource-type hsm") == []
    gone = az(f"keyvault show --hsm-name {NEW} -g {group}", code=3)
    assert "ResourceNotFound" in gone.err


def test_providers_and_regions_say_where_a_hsm_may_be_created(az: Any, group: str) -> None:
    shown = az("provider show -n Microsoft.KeyVault")
    (offered,) = [
        one["locations"] for one in shown["resourceTypes"] if one["resourceType"] == "managedHSMs"
    ]
    assert shown["registrationState"] == "Registered"
    assert "North Europe" in offered
    assert "Microsoft.Sql" in {one["namespace"] for one in az("provider list")}
    regions = {one["name"]: one for one in az("account list-locations")}
    assert regions["northeurope"]["metadata"]["geography"] == "Europe"
    refused = az(
        f"keyvault create --hsm-name lab--far -g {group} -l francesouth --retention-days 7"
        " --administrators 00000000-0000-4000-8000-000000000000",
        code=1,
    )
    assert "LocationNotAvailableForResourceType" in refused.err
    az("provider unregister -n Microsoft.KeyVault")
    assert az("provider show -n Microsoft.KeyVault")["registrationState"] == "Unregistered"
    az("provider register -n Microsoft.KeyVault")
