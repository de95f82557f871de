"""The lab under the other value of each setting that stands for something unknown."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from drengine.lab import commands

URL = "https://contoso--hsm.managedhsm.azure.net"
OTHER = {
    "transfer_key_on_reget": "new",
    "upload_on_active": 400,
    "restore_without_backup": "fail",
    "restore_busy_status": 429,
    "restoring_refusal": 403,
    "not_activated_refusal": 503,
    "restore_failed_error": "null",
    "put_while_busy": 202,
    "unknown_hsm": "no-name",
    "effect_visible_after_ms": 60_000,
    "retry_after_ms": None,
    "retry_after_seconds": 1,
    "start_service": 100,
}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, prepare_home: Any) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("other") / "home"
    prepare_home(home)
    try:
        commands.up(home, fast=True, settings=OTHER)
        yield home
    finally:
        commands.down(home)


@pytest.fixture
def lab(lab: Any, other: Any) -> Any:
    """The other lab, with the methods of the usual one."""
    return type(lab)(other)


def arm(lab: Any, name: str) -> str:
    found = lab.status
    return (
        f"https://management.azure.com/subscriptions/{found['subscription']}/resourceGroups/"
        f"{found['resource_group']}/providers/Microsoft.KeyVault/managedHSMs/{name}?api-version=1"
    )


def wait(lab: Any, url: str) -> Any:
    until = time.monotonic() + 30
    while True:
        status, _, body = lab.call("GET", url)
        if status != 202 and not (isinstance(body, dict) and body.get("status") == "InProgress"):
            return body
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_name_that_does_not_exist_does_not_resolve(lab: Any) -> None:
    with pytest.raises(ConnectionError, match="502"):
        lab.call("GET", "https://no-such--hsm.managedhsm.azure.net/keys?api-version=7.4")


def test_a_new_hsm_is_seen_late_and_a_second_put_is_the_same_operation(lab: Any) -> None:
    commands.set_clock(lab.home, speed=1.0)
    found = lab.status
    body = {
        "location": "uksouth",
        "properties": {"initialAdminObjectIds": [found["object_id"]]},
    }
    status, headers, _ = lab.call("PUT", arm(lab, "late--hsm"), body)
    assert (status, headers["retry-after"]) == (202, "1")
    assert lab.call("GET", arm(lab, "late--hsm"))[0] == 404
    status, again, _ = lab.call("PUT", arm(lab, "late--hsm"), body)
    assert (status, again["location"]) == (202, headers["location"])
    commands.set_clock(lab.home, advance_seconds=110)
    shown = lab.call("GET", arm(lab, "late--hsm"))[2]
    assert shown["properties"]["provisioningState"] == "Provisioning"
    url = "https://late--hsm.managedhsm.azure.net"
    keys = [
        json.loads(
            lab.call("GET", f"{url}/securitydomain/upload?api-version=7.5")[2]["transfer_key"]
        )["n"]
        for _ in range(2)
    ]
    assert keys[0] != keys[1]
    assert lab.call("GET", f"{url}/keys?api-version=7.5")[0] == 503
    commands.set_clock(lab.home, speed=commands.FAST_SPEED)
    wait(lab, headers["location"])


def test_an_active_hsm_refuses_an_upload_in_the_other_way(lab: Any) -> None:
    status, _, refused = lab.call(
        "POST", f"{URL}/securitydomain/upload?api-version=7.5", {"value": "x"}
    )
    assert (status, refused["error"]["code"]) == (400, "BadParameter")


def test_restores_fail_in_the_other_ways(lab: Any) -> None:
    storage = lab.status["storage"]
    container = f"https://{storage['account']}.blob.core.windows.net/{storage['container']}"
    parameters = {"storageResourceUri": container, "token": "?" + storage["sas"]}
    body = {"sasTokenParameters": parameters, "folderToRestore": "mhsm-nothing-1"}
    commands.set_clock(lab.home, speed=1.0)
    _, headers, _ = lab.call("PUT", f"{URL}/restore?api-version=7.5", body)
    status, _, refused = lab.call("GET", f"{URL}/keys?api-version=7.5")
    assert (status, refused["error"]["code"]) == (403, "Forbidden")
    commands.set_clock(lab.home, speed=commands.FAST_SPEED)
    job = wait(lab, headers["azure-asyncoperation"])
    assert (job["status"], job["error"]) == ("Failed", None)
    commands.set_clock(lab.home, speed=1.0)
    _, headers, _ = lab.call("POST", f"{URL}/backup?api-version=7.5", parameters)
    assert lab.call("POST", f"{URL}/backup?api-version=7.5", parameters)[0] == 429
    commands.set_clock(lab.home, speed=commands.FAST_SPEED)
    assert wait(lab, headers["azure-asyncoperation"])["status"] == "Succeeded"
