"""Regions, private endpoints and firewalls, as instances and operators meet them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from drengine.lab import commands

HSM = "contoso--hsm"
URL = f"https://{HSM}.managedhsm.azure.net"
ARM = "https://management.azure.com"
ZONE = "privatelink.managedhsm.azure.net"


def until(check: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)


def group(lab: Any) -> str:
    found = lab.status
    return f"/subscriptions/{found['subscription']}/resourceGroups/{found['resource_group']}"


def hsm_path(lab: Any) -> str:
    return f"{group(lab)}/providers/Microsoft.KeyVault/managedHSMs/{HSM}"


def change_hsm(lab: Any, **properties: Any) -> None:
    url = f"{ARM}{hsm_path(lab)}?api-version=2023-07-01"
    status, headers, body = lab.call("PATCH", url, {"properties": properties})
    assert status == 202, body
    until(lambda: lab.call("GET", headers["location"])[0] == 200)


def put(lab: Any, path: str, body: dict[str, Any]) -> Any:
    url = f"{ARM}{group(lab)}/providers/Microsoft.Network/{path}?api-version=2024-05-01"
    status, headers, shown = lab.call("PUT", url, body)
    assert status in {200, 201}, shown
    if poll := headers.get("azure-asyncoperation"):
        until(lambda: lab.call("GET", poll)[2]["status"] == "Succeeded")
    return shown


def validate(lab: Any, instance: str = "sqlmi-c") -> Any:
    """Ask an instance whether it can use its key; return the error's code, None when it can."""
    base = f"{ARM}{group(lab)}/providers/Microsoft.Sql/managedInstances/{instance}"
    kid = lab.call("GET", f"{base}/encryptionProtector/current?api-version=2025-01-01")[2]
    url = f"{base}/encryptionProtector/current/revalidate?api-version=2025-01-01"
    assert kid["properties"]["uri"]
    _, headers, _ = lab.call("POST", url)
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.update(lab.call("GET", headers["azure-asyncoperation"])[2])
        return found["status"] != "InProgress"

    until(ended)
    return found.get("error", {}).get("code")


def test_what_is_written_in_one_region_is_known_in_the_other_after_the_lag(own_lab: Any) -> None:
    change_hsm(own_lab, regions=[{"name": "uksouth"}])
    commands.set_clock(own_lab.home, speed=0)
    near = f"https://westeurope.{HSM}.managedhsm.azure.net/keys"
    far = f"https://uksouth.{HSM}.managedhsm.azure.net/keys"
    create = f"{URL}/keys/fresh/create?api-version=7.5"
    assert own_lab.call("POST", create, {"kty": "EC"})[0] == 200
    assert own_lab.call("GET", f"{near}/fresh?api-version=7.5")[0] == 200
    assert own_lab.call("GET", f"{far}/fresh?api-version=7.5")[0] == 404
    names = [one["kid"] for one in own_lab.call("GET", f"{far}?api-version=7.5")[2]["value"]]
    assert not any(kid.endswith("/fresh") for kid in names)
    commands.set_clock(own_lab.home, advance_seconds=361)
    assert own_lab.call("GET", f"{far}/fresh?api-version=7.5")[0] == 200
    version = f"{URL}/keys/app-wrap?api-version=7.5"
    old = own_lab.call("GET", version)[2]["key"]["kid"]
    assert own_lab.call("POST", f"{URL}/keys/app-wrap/rotate?api-version=7.5")[0] == 200
    assert own_lab.call("GET", f"{far}/app-wrap?api-version=7.5")[2]["key"]["kid"] == old
    commands.set_clock(own_lab.home, advance_seconds=361)
    assert own_lab.call("GET", f"{far}/app-wrap?api-version=7.5")[2]["key"]["kid"] != old
    restore(own_lab)
    assert own_lab.call("GET", f"{near}/fresh?api-version=7.5")[0] == 404
    assert own_lab.call("GET", f"{far}/fresh?api-version=7.5")[0] == 200
    commands.set_clock(own_lab.home, advance_seconds=361)
    assert own_lab.call("GET", f"{far}/fresh?api-version=7.5")[0] == 404


def restore(lab: Any) -> None:
    """Take a backup and restore the estate's first one, with a clock that is stepped."""
    found = lab.status
    storage = found["storage"]
    container = f"https://{storage['account']}.blob.core.windows.net/{storage['container']}"
    token = {"storageResourceUri": container, "token": storage["sas"]}
    wanted = {"sasTokenParameters": token, "folderToRestore": found["backup"]["folder"]}
    for method, path, body in (("POST", "backup", token), ("PUT", "restore", wanted)):
        status, headers, answer = lab.call(method, f"{URL}/{path}?api-version=7.5", body)
        assert status == 202, answer
        commands.set_clock(lab.home, advance_seconds=40)
        poll = headers["azure-asyncoperation"]
        until(lambda poll=poll: lab.call("GET", poll)[2]["status"] == "Succeeded")


def test_a_second_region_serves_while_the_first_is_lost(own_lab: Any) -> None:
    with pytest.raises(ConnectionError):
        own_lab.call("GET", f"https://uksouth.{HSM}.managedhsm.azure.net/keys?api-version=7.5")
    change_hsm(own_lab, regions=[{"name": "uksouth"}])
    commands.disaster(own_lab.home, "region-lost", "West Europe")
    assert own_lab.call("GET", f"{URL}/keys?api-version=7.5")[0] == 200
    with pytest.raises(ConnectionError):
        own_lab.call("GET", f"https://westeurope.{HSM}.managedhsm.azure.net/keys?api-version=7.5")
    fog = f"{ARM}{group(own_lab)}/providers/Microsoft.Sql/locations/northeurope"
    url = f"{fog}/instanceFailoverGroups/contoso-fog"
    shown = own_lab.call("GET", f"{url}?api-version=2025-01-01")[2]
    assert shown["properties"]["replicationState"] == "SUSPENDED"
    _, headers, _ = own_lab.call("POST", f"{url}/failover?api-version=2025-01-01")
    poll = headers["azure-asyncoperation"]
    until(lambda: own_lab.call("GET", poll)[2]["status"] != "InProgress")
    assert own_lab.call("GET", poll)[2]["error"]["code"] == "PlannedFailoverTimedOut"
    _, headers, _ = own_lab.call("POST", f"{url}/forceFailoverAllowDataLoss?api-version=2025-01-01")
    poll = headers["azure-asyncoperation"]
    until(lambda: own_lab.call("GET", poll)[2]["status"] == "Succeeded")
    commands.disaster(own_lab.home, "region-back", "westeurope")
    assert (
        own_lab.call("GET", f"{url}?api-version=2025-01-01")[2]["properties"]["replicationState"]
        == "CATCH_UP"
    )


def test_without_a_second_region_a_lost_region_takes_the_hsm_with_it(own_lab: Any) -> None:
    commands.disaster(own_lab.home, "region-lost")
    with pytest.raises(ConnectionError):
        own_lab.call("GET", f"{URL}/keys?api-version=7.5")
    commands.disaster(own_lab.home, "region-back")
    assert own_lab.call("GET", f"{URL}/keys?api-version=7.5")[0] == 200


def test_writes_may_need_the_primary_region(own_lab: Any) -> None:
    change_hsm(own_lab, regions=[{"name": "uksouth"}])
    commands.down(own_lab.home)
    commands.up(own_lab.home, settings={"writes_when_primary_lost": "refuse"})
    commands.disaster(own_lab.home, "region-lost", "westeurope")
    create = f"{URL}/keys/late/create?api-version=7.5"
    assert own_lab.call("POST", create, {"kty": "EC"})[0] == 503
    assert own_lab.call("GET", f"{URL}/keys/late?api-version=7.5")[0] == 404


def test_trusted_services_pass_the_firewall_only_with_the_bypass(own_lab: Any) -> None:
    change_hsm(own_lab, networkAcls={"bypass": "AzureServices", "defaultAction": "Deny"})
    assert own_lab.call("GET", f"{URL}/keys?api-version=7.5")[0] == 403
    assert validate(own_lab) is None
    change_hsm(own_lab, networkAcls={"bypass": "None", "defaultAction": "Deny"})
    assert validate(own_lab) == "AkvKeyOperationNotAllowedByFirewall"
    change_hsm(own_lab, networkAcls={"bypass": "None"}, publicNetworkAccess="Disabled")
    assert validate(own_lab) == "AkvKeyOperationNotAllowedByFirewall"


def test_a_private_endpoint_works_with_zone_link_record_and_approval(own_lab: Any) -> None:
    network = f"{group(own_lab)}/providers/Microsoft.Network"
    vnet = f"{network}/virtualNetworks/vnet-sqlmi-c"
    change_hsm(own_lab, networkAcls={"bypass": "None"}, publicNetworkAccess="Disabled")
    target = {"privateLinkServiceId": hsm_path(own_lab), "groupIds": ["managedhsm"]}
    put(
        own_lab,
        "privateEndpoints/pe",
        {
            "location": "westeurope",
            "properties": {
                "subnet": {"id": f"{vnet}/subnets/endpoints"},
                "privateLinkServiceConnections": [{"name": "pec", "properties": target}],
            },
        },
    )
    assert validate(own_lab) == "AkvKeyOperationNotAllowedByFirewall"  # still the public name
    put(own_lab, f"privateDnsZones/{ZONE}", {"location": "global"})
    link = {"location": "global", "properties": {"virtualNetwork": {"id": vnet}}}
    put(own_lab, f"privateDnsZones/{ZONE}/virtualNetworkLinks/c", link)
    assert validate(own_lab) == "AkvHostNotResolvingFromNode"  # a zone without the record
    zone = {"privateDnsZoneId": f"{network}/privateDnsZones/{ZONE}"}
    zones = {"properties": {"privateDnsZoneConfigs": [{"name": "hsm", "properties": zone}]}}
    put(own_lab, "privateEndpoints/pe/privateDnsZoneGroups/default", zones)
    assert validate(own_lab) is None
    assert validate(own_lab, "sqlmi-a") == "AkvKeyOperationNotAllowedByFirewall"  # another network
    connection = f"{ARM}{hsm_path(own_lab)}/privateEndpointConnections/pec?api-version=2023-07-01"
    state = {"privateLinkServiceConnectionState": {"status": "Rejected"}}
    own_lab.call("PUT", connection, {"properties": state})
    assert validate(own_lab) == "AkvKeyOperationNotAllowedByFirewall"
    state = {"privateLinkServiceConnectionState": {"status": "Approved"}}
    own_lab.call("PUT", connection, {"properties": state})
    assert validate(own_lab) is None
    record = {"properties": {"aRecords": [{"ipv4Address": "10.99.0.9"}], "ttl": 10}}
    put(own_lab, f"privateDnsZones/{ZONE}/A/{HSM}", record)
    assert validate(own_lab) == "AkvEndpointNotReachableFromNode"  # a stale address


def test_a_cut_network_is_an_outage_and_no_refusal(own_lab: Any) -> None:
    commands.disaster(own_lab.home, "network-cut", "sqlmi-c")
    assert validate(own_lab) == "AkvEndpointNotReachableFromNode"
    assert validate(own_lab, "sqlmi-a") is None
    commands.disaster(own_lab.home, "network-back", "sqlmi-c")
    assert validate(own_lab) is None


@pytest.mark.parametrize(
    ("kind", "target", "code"),
    [
        ("key-deleted", "sqlmi-tde-hr", "AkvKeyDeleted"),
        ("key-disabled", "sqlmi-tde-hr", "AzureKeyVaultKeyDisabled"),
        ("access-revoked", "sqlmi-c", "AzureKeyVaultMissingPermissions"),
        ("identity-deleted", "sqlmi-c", "AzureKeyVaultNoServerIdentity"),
        ("hsm-deleted", "", "AkvKeyDeleted"),
        ("region-lost", "westeurope", "AkvKeyDNS"),
    ],
)
def test_every_disaster_shows_with_its_own_code(
    own_lab: Any, kind: str, target: str, code: str
) -> None:
    assert validate(own_lab) is None
    commands.disaster(own_lab.home, kind, target)
    assert validate(own_lab) == code


def test_a_stepped_clock_moves_only_when_it_is_told(own_lab: Any) -> None:
    commands.set_clock(own_lab.home, speed=0)
    first = commands.set_clock(own_lab.home)["now_ms"]
    time.sleep(0.05)
    assert commands.set_clock(own_lab.home)["now_ms"] == first
    assert commands.set_clock(own_lab.home, advance_seconds=7)["now_ms"] == first + 7000
