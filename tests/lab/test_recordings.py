"""The lab's answers have the shape of recorded answers of the real service.

Compared are status, member names and JSON types, not values. The recordings lie beside
the repository; where they are absent the tests are skipped.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "azure" / "recordings" / "keyvault"
pytestmark = pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings are not here")

URL = "https://contoso--hsm.managedhsm.azure.net"
ARM = "https://management.azure.com"
LATER_MEMBERS = {"identity"}
"""Members that depend on how a resource was made, not on the service."""
NUMBERED_ERROR = ("code", "message")


def interactions(file: str) -> list[dict[str, Any]]:
    loaded = yaml.load((RECORDINGS / file).read_text(), Loader=yaml.CSafeLoader)
    return list(loaded["interactions"])


def recorded(file: str, method: str, pattern: str, status: int, nth: int = 0) -> Any:
    """Return the body of the nth recorded answer that fits."""
    found = [
        one["response"]["body"]
        for one in interactions(file)
        if one["request"]["method"] == method
        and re.search(pattern, one["request"]["uri"])
        and one["response"]["status"]["code"] == status
    ]
    assert len(found) > nth, f"{file}: no {method} {pattern} with {status}"
    return json.loads(found[nth]) if found[nth] else b""


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items() if name not in LATER_MEMBERS}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return (
        "number"
        if isinstance(value, int | float) and not isinstance(value, bool)
        else type(value).__name__
    )


def assert_same_shape(ours: Any, theirs: Any, where: str = "$") -> None:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        assert set(ours) == set(theirs), where
        for name in ours:
            assert_same_shape(ours[name], theirs[name], f"{where}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list):
        if ours and theirs:
            assert_same_shape(ours[0], theirs[0], f"{where}[0]")
    elif "NoneType" not in (ours, theirs):
        assert ours == theirs, where


def same(ours: Any, theirs: Any) -> None:
    assert_same_shape(shape(ours), shape(theirs))


def wait(lab: Any, url: str) -> Any:
    until = time.monotonic() + 20
    while True:
        status, _, body = lab.call("GET", url)
        if status != 202 and not (isinstance(body, dict) and body.get("status") == "InProgress"):
            return body
        assert time.monotonic() < until
        time.sleep(0.02)


MGMT = "2023-12.test_keyvault_hsm_mgmt.yaml"
KEYS = "2023-12.test_keyvault_hsm_key_using_hsm_name.yaml"
BACKUP = "2021-02.test_keyvault_hsm_full_backup_restore.yaml"
DOMAIN = "2023-07.test_keyvault_hsm_security_domain.yaml"
ROLE = "2023-12.test_keyvault_hsm_role.yaml"
SETTING = "2023-12.test_keyvault_hsm_setting.yaml"


def test_resource_answers(lab: Any) -> None:
    found = lab.status
    base = f"{ARM}/subscriptions/{found['subscription']}"
    group = f"{base}/resourceGroups/{found['resource_group']}"
    url = f"{group}/providers/Microsoft.KeyVault/managedHSMs/shape--hsm?api-version=2023-07-01"
    body = {
        "location": "uksouth",
        "properties": {
            "tenantId": found["tenant"],
            "initialAdminObjectIds": [found["object_id"]],
            "softDeleteRetentionInDays": 7,
        },
    }
    status, headers, empty = lab.call("PUT", url, body)
    assert (status, empty) == (202, recorded(MGMT, "PUT", "managedHSMs/", 202))
    theirs = recorded(MGMT, "GET", "managedHsmOperationResults", 200)
    ours = wait(lab, headers["location"])
    same(ours, theirs)
    for text in ("statusMessage",):
        assert ours["properties"][text] == theirs["properties"][text]
    assert (
        ours["properties"]["securityDomainProperties"]
        == theirs["properties"]["securityDomainProperties"]
    )
    assert ours["type"] == theirs["type"]
    theirs = recorded(MGMT, "GET", r"managedHSMs/clitest-mhsm-000002\?", 200)
    same(lab.call("GET", url)[2], theirs)
    check = f"{base}/providers/Microsoft.KeyVault/checkMhsmNameAvailability?api-version=2023-07-01"
    same(
        lab.call("POST", check, {"name": "shape--hsm"})[2],
        recorded(MGMT, "POST", "checkMhsm", 200, 1),
    )
    assert lab.call("POST", check, {"name": "free--hsm"})[2] == recorded(
        MGMT, "POST", "checkMhsm", 200
    )
    wait(lab, lab.call("DELETE", url)[1]["location"])
    deleted = f"{base}/providers/Microsoft.KeyVault/deletedManagedHSMs?api-version=2023-07-01"
    theirs = recorded(DOMAIN, "GET", "deletedManagedHSMs", 200)
    same(lab.call("GET", deleted)[2], theirs)


def test_security_domain_answers(lab: Any) -> None:
    found = lab.status
    url = (
        f"{ARM}/subscriptions/{found['subscription']}/resourceGroups/{found['resource_group']}"
        "/providers/Microsoft.KeyVault/managedHSMs/domain--hsm?api-version=2023-07-01"
    )
    properties = {"tenantId": found["tenant"], "initialAdminObjectIds": [found["object_id"]]}
    made = lab.call("PUT", url, {"location": "uksouth", "properties": properties})
    wait(lab, made[1]["location"])
    upload = "https://domain--hsm.managedhsm.azure.net/securitydomain/upload?api-version=7.2"
    theirs = recorded(DOMAIN, "GET", r"securitydomain/upload\?", 200)
    ours = lab.call("GET", upload)[2]
    same(ours, theirs)
    same(json.loads(ours["transfer_key"]), json.loads(theirs["transfer_key"]))
    domain = json.loads(Path(found["security_domain"]["file"]).read_text())
    theirs = json.loads(recorded(DOMAIN, "POST", "securitydomain/download", 202)["value"])
    same(domain, theirs)
    assert list(domain) == list(theirs)
    headers = [one["compact_jwe"].split(".")[0] for one in theirs["EncData"]["data"]]
    assert [one["compact_jwe"].split(".")[0] for one in domain["EncData"]["data"]] == headers
    parts = [
        [len(part) for part in one["enc_key"].split(".")]
        for one in theirs["SharedKeys"]["enc_shares"]
    ]
    assert parts[0] == [
        len(part) for part in domain["SharedKeys"]["enc_shares"][0]["enc_key"].split(".")
    ]
    pending = recorded(DOMAIN, "GET", "upload/pending", 200)
    ours = lab.call("GET", f"{URL}/securitydomain/upload/pending?api-version=7.2")[2]
    same(ours, pending)


def test_backup_and_restore_answers(lab: Any) -> None:
    storage = lab.status["storage"]
    container = f"https://{storage['account']}.blob.core.windows.net/{storage['container']}"
    parameters = {"storageResourceUri": container, "token": storage["sas"]}
    status, headers, ours = lab.call("POST", f"{URL}/backup?api-version=7.5-preview.1", parameters)
    same(ours, recorded(BACKUP, "POST", "/backup", 202))
    assert status == 202
    done = wait(lab, headers["azure-asyncoperation"])
    theirs = [
        json.loads(one["response"]["body"])
        for one in interactions(BACKUP)
        if "/backup/" in one["request"]["uri"] and "Succeeded" in one["response"]["body"]
    ]
    same(done, theirs[0])
    folder = done["azureStorageBlobContainerUri"].rsplit("/", 1)[1]
    assert re.fullmatch(r"mhsm-contoso--hsm-\d{16}", folder)
    body = {"sasTokenParameters": parameters, "folderToRestore": folder}
    _, headers, ours = lab.call("PUT", f"{URL}/restore?api-version=7.5-preview.1", body)
    same(ours, recorded(BACKUP, "PUT", "/restore", 202))
    done = wait(lab, headers["azure-asyncoperation"])
    theirs = [
        json.loads(one["response"]["body"])
        for one in interactions(BACKUP)
        if "/restore/" in one["request"]["uri"] and "Succeeded" in one["response"]["body"]
    ]
    same(done, theirs[0])


def test_key_answers(lab: Any) -> None:
    name = "shape-key"
    made = lab.call("POST", f"{URL}/keys/{name}/create?api-version=7.5", {"kty": "RSA"})[2]
    theirs = recorded(KEYS, "POST", "/create", 200)
    same(made, theirs)
    assert made["key"]["kty"] == theirs["key"]["kty"]
    assert set(made["key"]["key_ops"]) == set(theirs["key"]["key_ops"])
    same(
        lab.call("GET", f"{URL}/keys/{name}/?api-version=7.5")[2],
        recorded(KEYS, "GET", r"/keys/key1-000003/\?", 200),
    )
    same(lab.call("GET", f"{URL}/keys?api-version=7.5")[2], recorded(KEYS, "GET", r"/keys\?", 200))
    same(
        lab.call("GET", f"{URL}/keys/{name}/versions?api-version=7.5")[2],
        recorded(KEYS, "GET", r"/versions\?", 200),
    )
    same(
        lab.call("POST", f"{URL}/keys/{name}/backup?api-version=7.5")[2],
        recorded(KEYS, "POST", r"/backup\?", 200),
    )
    version = made["key"]["kid"].rsplit("/", 1)[1]
    url = f"{URL}/keys/{name}/{version}"
    sealed = lab.call(
        "POST", f"{url}/encrypt?api-version=7.5", {"alg": "RSA-OAEP", "value": "YWJjZGVm"}
    )[2]
    opened = lab.call(
        "POST", f"{url}/decrypt?api-version=7.5", {"alg": "RSA-OAEP", "value": sealed["value"]}
    )[2]
    theirs = recorded(KEYS, "POST", "/decrypt", 200)
    same(opened, theirs)
    assert opened["value"] == "YWJjZGVm"
    same(
        lab.call("DELETE", f"{URL}/keys/{name}?api-version=7.5")[2],
        recorded(KEYS, "DELETE", r"/keys/key1-000003\?", 200),
    )


def test_role_and_setting_answers(lab: Any) -> None:
    prefix = f"{URL}/providers/Microsoft.Authorization"
    definitions = lab.call("GET", f"{prefix}/roleDefinitions?api-version=7.4")[2]
    theirs = recorded(ROLE, "GET", "roleDefinitions", 200)
    same(definitions, theirs)
    ours = {one["name"]: one for one in definitions["value"]}
    for one in theirs["value"]:
        assert ours[one["name"]] == one
    role = theirs["value"][1]["id"]
    body = {"properties": {"roleDefinitionId": role, "principalId": str(uuid.uuid4())}}
    url = f"{prefix}/roleAssignments/{uuid.uuid4()}?api-version=7.4"
    status, _, made = lab.call("PUT", url, body)
    same(made, recorded(ROLE, "PUT", "roleAssignments", 201))
    assert status == 201
    same(
        lab.call("GET", f"{prefix}/roleAssignments?api-version=7.4")[2],
        recorded(ROLE, "GET", r"net/providers/Microsoft.Authorization/roleAssignments\?", 200),
    )
    same(lab.call("DELETE", url)[2], recorded(ROLE, "DELETE", "roleAssignments", 200))
    same(
        lab.call("GET", f"{URL}/settings?api-version=7.4")[2],
        recorded(SETTING, "GET", r"/settings\?", 200),
    )
