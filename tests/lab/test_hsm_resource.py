"""Managed HSMs as Azure resources, and the security domain, by raw requests."""

from __future__ import annotations

import base64
import datetime as dt
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.keyvault.securitydomain import SecurityDomainClient
from azure.mgmt.keyvault import KeyVaultManagementClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from drengine.lab import commands

ARM = "https://management.azure.com"
VERSION = "api-version=2026-02-01"


def path(lab: Any, name: str, tail: str = "") -> str:
    status = lab.status
    return (
        f"{ARM}/subscriptions/{status['subscription']}/resourceGroups/{status['resource_group']}"
        f"/providers/Microsoft.KeyVault/managedHSMs/{name}{tail}?{VERSION}"
    )


def provider(lab: Any, tail: str) -> str:
    subscription = lab.status["subscription"]
    return f"{ARM}/subscriptions/{subscription}/providers/Microsoft.KeyVault/{tail}?{VERSION}"


def body(lab: Any, **properties: Any) -> dict[str, Any]:
    return {
        "location": "northeurope",
        "sku": {"family": "B", "name": "Standard_B1"},
        "properties": {
            "tenantId": lab.status["tenant"],
            "initialAdminObjectIds": [lab.status["object_id"]],
            "softDeleteRetentionInDays": "28",
            **properties,
        },
    }


def settle(lab: Any, answer: tuple[int, Any, Any]) -> tuple[int, Any, Any]:
    status, headers, content = answer
    assert (status, content) == (202, b"")
    url = headers["location"]
    assert "/managedHsmOperationResults/" in url
    until = time.monotonic() + 20
    while status == 202:
        assert time.monotonic() < until
        status, headers, content = lab.call("GET", url)
        time.sleep(0.02)
    return status, headers, content


def create(lab: Any, name: str, **properties: Any) -> dict[str, Any]:
    status, _, made = settle(lab, lab.call("PUT", path(lab, name), body(lab, **properties)))
    assert status == 200
    return dict(made)


@pytest.fixture(scope="module")
def bare(lab: Any) -> Iterator[str]:
    """The name of a HSM that is provisioned and not activated."""
    create(lab, "bare--hsm")
    return "bare--hsm"


def test_a_creation_goes_through_the_recorded_states(own_lab: Any) -> None:
    commands.set_clock(own_lab.home, speed=1.0)
    status, headers, content = own_lab.call("PUT", path(own_lab, "slow--hsm"), body(own_lab))
    assert (status, content, headers["retry-after-ms"]) == (202, b"", "40")
    assert "azure-asyncoperation" not in headers
    seen = []
    for advance in (0, 300, 100, 600):
        commands.set_clock(own_lab.home, advance_seconds=advance)
        time.sleep(0.5)
        shown = own_lab.call("GET", path(own_lab, "slow--hsm"))[2]["properties"]
        domain = shown["securityDomainProperties"]["activationStatus"]
        seen.append((shown["provisioningState"], shown["statusMessage"], domain))
    busy = "Resource creation in progress. "
    assert seen == [
        ("Provisioning", busy + "Allocating hardware...", "Unknown"),
        ("Provisioning", busy + "Starting service...", "Unknown"),
        ("Provisioning", busy + "Starting service...", "NotActivated"),
        ("Succeeded", "The Managed HSM is provisioned and ready to use.", "NotActivated"),
    ]


def test_a_name_is_taken_while_the_hsm_lives_and_while_it_lies_deleted(lab: Any) -> None:
    def available(name: str) -> dict[str, Any]:
        url = provider(lab, "checkMhsmNameAvailability")
        return dict(lab.call("POST", url, {"name": name})[2])

    assert available("fresh--hsm") == {"nameAvailable": True}
    create(lab, "fresh--hsm")
    assert available("fresh--hsm") == {
        "nameAvailable": False,
        "reason": "AlreadyExists",
        "message": "The name 'fresh--hsm' is already in use.",
    }
    assert available("1x")["reason"] == "AccountNameInvalid"
    assert settle(lab, lab.call("DELETE", path(lab, "fresh--hsm")))[2] == b""
    assert available("fresh--hsm")["nameAvailable"] is False
    status, _, refused = lab.call("PUT", path(lab, "fresh--hsm"), body(lab))
    assert (status, refused["error"]["code"]) == (409, "ConflictError")
    assert "recover or purge existing KV MHSM" in refused["error"]["message"]
    status, _, content = lab.call("GET", path(lab, "fresh--hsm"))
    assert (status, content["error"]["code"]) == (404, "ResourceNotFound")


def test_a_deleted_hsm_can_be_recovered_or_purged(lab: Any) -> None:
    made = create(lab, "come--back")
    settle(lab, lab.call("DELETE", path(lab, "come--back")))
    deleted = lab.call("GET", provider(lab, "locations/northeurope/deletedManagedHSMs/come--back"))[
        2
    ]
    assert deleted["type"] == "Microsoft.Keyvault/deletedManagedHSMs"
    properties = deleted["properties"]
    assert properties["mhsmId"] == made["id"]
    dates = [
        dt.datetime.fromisoformat(properties[name])
        for name in ("deletionDate", "scheduledPurgeDate")
    ]
    assert dates[1] - dates[0] == dt.timedelta(days=28)
    recover = {**body(lab), "properties": {"tenantId": "x", "createMode": "Recover"}}
    status, _, nothing = settle(lab, lab.call("PUT", path(lab, "come--back"), recover))
    assert (status, nothing) == (200, b"")  # recorded: a recovery ends without the resource
    back = lab.call("GET", path(lab, "come--back"))[2]
    assert back["properties"]["provisioningState"] == "Succeeded"
    settle(lab, lab.call("DELETE", path(lab, "come--back")))
    purge = provider(lab, "locations/northeurope/deletedManagedHSMs/come--back/purge")
    assert settle(lab, lab.call("POST", purge))[2] == b""
    assert lab.call("POST", purge)[0] == 404
    create(lab, "come--back")


def test_purge_protection_refuses_purge_and_cannot_be_taken_back(lab: Any) -> None:
    create(lab, "keep--it", enablePurgeProtection=True)
    url = path(lab, "keep--it")
    status, _, refused = lab.call("PATCH", url, {"properties": {"enablePurgeProtection": False}})
    assert (status, refused["error"]["code"]) == (400, "400")
    settle(lab, lab.call("DELETE", url))
    purge = provider(lab, "locations/northeurope/deletedManagedHSMs/keep--it/purge")
    status, _, refused = lab.call("POST", purge)
    assert (status, refused["error"]["code"]) == (403, "403")
    listed = lab.call("GET", provider(lab, "deletedManagedHSMs"))[2]["value"]
    assert "keep--it" in [one["name"] for one in listed]


def test_an_update_replaces_what_it_names_and_nothing_else(lab: Any, bare: str) -> None:
    identity = lab.status["identity"]["id"]
    rules = {
        "ipRules": [{"value": "203.0.113.0/24"}],
        "virtualNetworkRules": [{"id": "/subscriptions/s/subnets/a"}],
    }
    change = {
        "tags": {"run": "drill-7"},
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}},
        # nothing that would keep the tests that follow from its data plane
        "properties": {"networkAcls": {"bypass": "None", "defaultAction": "Allow", **rules}},
    }
    before = lab.call("GET", path(lab, bare))[2]
    answer = lab.call("PATCH", path(lab, bare), change)
    busy = lab.call("PATCH", path(lab, bare), change)
    assert busy[0] == 409
    assert settle(lab, answer)[2] == b""
    after = lab.call("GET", path(lab, bare))[2]
    assert after["tags"] == {"run": "drill-7"}
    assert list(after["identity"]["userAssignedIdentities"]) == [identity]
    assert after["properties"]["networkAcls"] == change["properties"]["networkAcls"]
    for same in ("hsmUri", "softDeleteRetentionInDays", "initialAdminObjectIds"):
        assert after["properties"][same] == before["properties"][same]


def test_lists_show_living_hsms_only(lab: Any, bare: str) -> None:
    listed = lab.call("GET", provider(lab, "managedHSMs"))[2]["value"]
    names = [one["name"] for one in listed]
    assert {"contoso--hsm", bare} <= set(names)
    group = lab.call("GET", path(lab, "").replace("managedHSMs/", "managedHSMs"))[2]["value"]
    assert [one["name"] for one in group] == names


def test_identities_and_subscriptions_are_readable(lab: Any) -> None:
    found = lab.status
    identity = lab.call("GET", f"{ARM}{found['identity']['id']}?api-version=2023-01-31")[2]
    assert identity["properties"]["principalId"] == found["identity"]["principal_id"]
    resources = f"{ARM}/subscriptions/{found['subscription']}/resources?api-version=2015-11-01"
    assert lab.call("GET", resources)[2] == {"value": []}


def test_before_activation_only_the_security_domain_is_reachable(lab: Any, bare: str) -> None:
    url = f"https://{bare}.managedhsm.azure.net"
    status, _, refused = lab.call("GET", f"{url}/keys?api-version=7.4")
    assert (status, refused["error"]["code"]) == (403, "Forbidden")
    status, _, key = lab.call("GET", f"{url}/securitydomain/upload?api-version=7.5")
    assert (status, key["key_format"]) == (200, "jwk")
    jwk = json.loads(key["transfer_key"])
    again = json.loads(
        lab.call("GET", f"{url}/securitydomain/upload?api-version=7.5")[2]["transfer_key"]
    )
    assert again == jwk
    certificate = x509.load_der_x509_certificate(base64.b64decode(jwk["x5c"][0]))
    assert certificate.subject.rfc4514_string() == f"CN={bare}.managedhsm.azure.net"
    assert certificate.public_key().key_size == 4096
    certificate.verify_directly_issued_by(certificate)


@pytest.mark.parametrize(
    "value",
    [
        "not json",
        "{}",
        '{"EncData":{"data":[],"kdf":"sp108_kdf"},"WrappedKey":{}}',
        json.dumps(
            {
                "EncData": {
                    "data": [
                        {"tag": tag, "compact_jwe": "a.b.c.d.e"}
                        for tag in ("hsm_backup", "base_enclave_backup", "partition_enclave_backup")
                    ],
                    "kdf": "sp108_kdf",
                },
                "WrappedKey": {"enc_key": "a.b.c.d.e", "x5t_256": "of another exchange key"},
            }
        ),
    ],
)
def test_what_is_no_restore_blob_for_this_hsm_is_refused_at_once(
    lab: Any, bare: str, value: str
) -> None:
    url = f"https://{bare}.managedhsm.azure.net/securitydomain/upload?api-version=7.5"
    lab.call("GET", url)
    status, _, refused = lab.call("POST", url, {"value": value})
    assert (status, refused["error"]["code"]) == (400, "BadParameter")
    assert lab.call("GET", url)[0] == 200


def test_a_damaged_restore_blob_ends_failed_and_the_hsm_stays_as_it_was(
    lab: Any, bare: str
) -> None:
    url = f"https://{bare}.managedhsm.azure.net/securitydomain/upload"
    jwk = json.loads(lab.call("GET", f"{url}?api-version=7.5")[2]["transfer_key"])
    tags = ("hsm_backup", "base_enclave_backup", "partition_enclave_backup")
    blob = {
        "EncData": {
            "data": [{"tag": tag, "compact_jwe": "a.b.c.d.e"} for tag in tags],
            "kdf": "sp108_kdf",
        },
        "WrappedKey": {"enc_key": "a.b.c.d.e", "x5t_256": jwk["x5t#S256"]},
    }
    status, headers, begun = lab.call("POST", f"{url}?api-version=7.5", {"value": json.dumps(blob)})
    assert (status, begun["status"]) == (202, "InProgress")
    pending = headers["azure-asyncoperation"]
    assert pending == f"{url}/pending?api-version=7.2"
    until = time.monotonic() + 20
    while begun["status"] == "InProgress":
        assert time.monotonic() < until
        begun = lab.call("GET", pending)[2]
    assert begun["status"] == "Failed"
    assert "does not open" in begun["status_details"]
    shown = lab.call("GET", path(lab, bare))[2]["properties"]["securityDomainProperties"]
    assert shown["activationStatus"] == "NotActivated"


def custodian() -> dict[str, Any]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "c")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .public_key(key.public_key())
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return {"kty": "RSA", "x5c": [base64.b64encode(der).decode()], "alg": "RSA-OAEP-256"}


def test_the_first_download_activates_and_a_second_one_only_wraps_anew(lab: Any) -> None:
    create(lab, "new--hsm")
    url = "https://new--hsm.managedhsm.azure.net"
    domain = SecurityDomainClient(url, lab.credential(), **lab.client_options)
    wanted = {"certificates": [custodian() for _ in range(4)], "required": 3}
    first = json.loads(domain.begin_download(wanted, polling_interval=0.05).result().value)
    assert (first["version"], first["SharedKeys"]["required"]) == (2, 3)
    assert domain.get_download_status().status == "Success"
    shown = lab.call("GET", path(lab, "new--hsm"))[2]["properties"]["securityDomainProperties"]
    assert shown["activationStatus"] == "Active"
    second = json.loads(domain.begin_download(wanted, polling_interval=0.05).result().value)
    assert second["EncData"] != first["EncData"]
    for refused in (
        {**wanted, "required": 5},
        {**wanted, "certificates": wanted["certificates"][:2], "required": 2},
    ):
        with pytest.raises(HttpResponseError, match="BadParameter"):
            domain.begin_download(refused)
    with pytest.raises(HttpResponseError) as refusal:
        domain.get_transfer_key()
    assert refusal.value.status_code == 409


def test_a_stranger_gets_neither_domain_nor_exchange_key(lab: Any, bare: str) -> None:
    stranger = lab.token(object_id="99999999-9999-4999-8999-999999999999")
    url = f"https://{bare}.managedhsm.azure.net/securitydomain"
    for method, tail in (("GET", "upload"), ("POST", "download"), ("GET", "upload/pending")):
        status, _, refused = lab.call(
            method,
            f"{url}/{tail}?api-version=7.5",
            {} if method == "POST" else None,
            token=stranger,
        )
        assert (status, refused["error"]["code"]) == (403, "Forbidden")


def test_the_management_sdk_deletes_and_purges(lab: Any) -> None:
    create(lab, "sdk--hsm")
    found = lab.status
    arm = KeyVaultManagementClient(
        lab.credential(), found["subscription"], polling_interval=0.05, **lab.client_options
    )
    arm.managed_hsms.begin_delete(found["resource_group"], "sdk--hsm").wait()
    names = [one.name for one in arm.managed_hsms.list_deleted()]
    assert "sdk--hsm" in names
    arm.managed_hsms.begin_purge_deleted("sdk--hsm", "northeurope").wait()
    assert "sdk--hsm" not in [one.name for one in arm.managed_hsms.list_deleted()]


def test_files_of_the_lab_home_are_private(lab: Any) -> None:
    assert lab.home.stat().st_mode & 0o777 == 0o700
    for file in (
        "identity.json",
        "lab.db",
        "tls/ca.key",
        "custodians/custodian-1.key",
        "server.log",
    ):
        assert Path(lab.home / file).stat().st_mode & 0o077 == 0, file


def test_a_region_takes_no_more_hsms_than_the_quota(lab: Any) -> None:
    wanted = {**body(lab), "location": "ukwest"}
    for number in range(5):
        assert lab.call("PUT", path(lab, f"many--{number}"), wanted)[0] == 202
    status, _, refused = lab.call("PUT", path(lab, "many--5"), wanted)
    assert (status, refused["error"]["code"]) == (403, "QuotaExceeded")


def test_a_hsm_is_made_in_a_group_that_exists(lab: Any) -> None:
    group = path(lab, "x").partition("/providers/")[0].rpartition("/")[0] + "/second"
    url = f"{group}/providers/Microsoft.KeyVault/managedHSMs/grouped--hsm?{VERSION}"
    wanted = {**body(lab), "location": "uksouth"}
    status, _, refused = lab.call("PUT", url, wanted)
    assert (status, refused["error"]["code"]) == (404, "ResourceGroupNotFound")
    status, _, made = lab.call("PUT", f"{group}?{VERSION}", {"location": "UK South"})
    assert (status, made["name"], made["location"]) == (201, "second", "uksouth")
    assert lab.call("PUT", url, wanted)[0] == 202
    status, _, refused = lab.call("PUT", f"{group}?{VERSION}", {"location": "eastus"})
    assert (status, refused["error"]["code"]) == (409, "InvalidResourceGroupLocation")


def subscription(lab: Any, tail: str) -> str:
    return f"{ARM}/subscriptions/{lab.status['subscription']}/{tail}?api-version=2021-04-01"


def test_a_region_without_hsms_takes_none(lab: Any) -> None:
    elsewhere = {**body(lab), "location": "France South"}
    status, _, refused = lab.call("PUT", path(lab, "far--hsm"), elsewhere)
    assert (status, refused["error"]["code"]) == (400, "LocationNotAvailableForResourceType")
    assert "northeurope" in refused["error"]["message"]


def test_a_subscription_that_is_not_registered_creates_no_hsm_until_it_is(own_lab: Any) -> None:
    def state() -> str:
        shown = own_lab.call("GET", subscription(own_lab, "providers/microsoft.keyvault"))[2]
        return str(shown["registrationState"])

    def register(word: str) -> int:
        url = subscription(own_lab, f"providers/Microsoft.KeyVault/{word}")
        return int(own_lab.call("POST", url)[0])

    assert state() == "Registered"
    assert register("unregister") == 200
    status, _, refused = own_lab.call("PUT", path(own_lab, "no--hsm"), body(own_lab))
    assert (status, refused["error"]["code"]) == (409, "MissingSubscriptionRegistration")
    commands.set_clock(own_lab.home, speed=1.0)
    assert (register("register"), state()) == (200, "Registering")
    assert own_lab.call("PUT", path(own_lab, "no--hsm"), body(own_lab))[0] == 409
    commands.set_clock(own_lab.home, advance_seconds=60)
    assert state() == "Registered"
    assert own_lab.call("PUT", path(own_lab, "no--hsm"), body(own_lab))[0] == 202


def test_a_provider_that_does_not_exist_is_refused(lab: Any) -> None:
    status, _, refused = lab.call("GET", subscription(lab, "providers/Contoso.Toasters"))
    assert (status, refused["error"]["code"]) == (404, "InvalidResourceNamespace")
