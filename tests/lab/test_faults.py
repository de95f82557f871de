"""Faults, as a client meets them: the answer is spoilt the way the rule says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from drengine.errors import InputError
from drengine.lab import commands
from drengine.lab.faults import NAMED

URL = "https://contoso--hsm.managedhsm.azure.net"
KEYS = f"{URL}/keys?api-version=7.5"
pytestmark = pytest.mark.faults


@pytest.fixture(autouse=True)
def no_faults_left(lab: Any) -> Iterator[None]:
    yield
    commands.clear_faults(lab.home)


def create(lab: Any, name: str) -> Any:
    return lab.call("POST", f"{URL}/keys/{name}/create?api-version=7.5", {"kty": "EC"})


def effects_on(lab: Any, name: str) -> int:
    counts = commands.effects(lab.home)
    return sum(
        n for what, n in counts.items() if what.startswith(f"hsm.key.create contoso--hsm/{name}/")
    )


def backup(lab: Any) -> Any:
    storage = lab.status["storage"]
    uri = f"https://{storage['account']}.blob.core.windows.net/{storage['container']}"
    return lab.call(
        "POST",
        f"{URL}/backup?api-version=7.5",
        {"storageResourceUri": uri, "token": storage["sas"]},
    )


def finish(lab: Any, url: str) -> Any:
    until = time.monotonic() + 20
    while True:
        status, _, body = lab.call("GET", url)
        if status != 200 or body["status"] != "InProgress":
            return status, body
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_throttled_request_has_no_effect_and_says_when_to_come_again(lab: Any) -> None:
    commands.add_fault(lab.home, name="throttled", path="/keys/slow/create", count=2)
    for _ in range(2):
        status, headers, body = create(lab, "slow")
        assert (status, headers["retry-after"]) == (429, "1")
        assert body["error"]["code"] == "TooManyRequests"
        assert headers["x-drengine-lab"] == "1"
    assert effects_on(lab, "slow") == 0
    assert create(lab, "slow")[0] == 200


def test_the_question_for_a_challenge_is_left_alone(lab: Any) -> None:
    commands.add_fault(lab.home, kind="status", status=500, path="/keys")
    assert lab.call("GET", KEYS, token="")[0] == 401
    assert lab.call("GET", KEYS)[0] == 500
    assert lab.call("GET", KEYS)[0] == 200


@pytest.mark.parametrize(("kind", "effects"), [("reset-before", 0), ("reset-after", 1)])
def test_a_reset_comes_before_or_after_the_effect(lab: Any, kind: str, effects: int) -> None:
    commands.add_fault(lab.home, kind=kind, method="POST", path=f"/keys/{kind}/create")
    with pytest.raises(ConnectionError):
        create(lab, kind)
    assert effects_on(lab, kind) == effects


def test_a_withheld_answer_leaves_its_effect(lab: Any) -> None:
    commands.add_fault(lab.home, kind="withhold", path="/keys/quiet/create", seconds=0.2)
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        create(lab, "quiet")
    assert time.monotonic() - began >= 0.2
    assert effects_on(lab, "quiet") == 1


def test_a_late_effect_comes_after_its_sender_was_cut_off(lab: Any) -> None:
    commands.add_fault(lab.home, kind="late-effect", path="/keys/late/create", seconds=120)
    with pytest.raises(ConnectionError):
        create(lab, "late")
    assert lab.call("GET", f"{URL}/keys/late?api-version=7.5")[0] == 404
    until = time.monotonic() + 10
    while effects_on(lab, "late") == 0:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_bodies_are_cut_dripped_and_exchanged(lab: Any) -> None:
    commands.add_fault(lab.home, kind="truncated-json", path="/keys")
    assert isinstance(lab.call("GET", KEYS)[2], bytes)
    commands.add_fault(lab.home, kind="html", path="/keys")
    assert lab.call("GET", KEYS)[2].startswith(b"<html>")
    commands.add_fault(lab.home, kind="foreign-json", path="/keys")
    assert "another" in lab.call("GET", KEYS)[2]["value"]
    commands.add_fault(lab.home, kind="broken-off", path="/keys")
    with pytest.raises(ConnectionError):
        lab.call("GET", KEYS)
    commands.add_fault(lab.home, kind="slow", path="/keys", seconds=0.4)
    began = time.monotonic()
    assert lab.call("GET", KEYS)[0] == 200
    assert time.monotonic() - began >= 0.3


def test_a_poll_asks_for_a_fresh_token_once(lab: Any) -> None:
    _, headers, _ = backup(lab)
    commands.add_fault(lab.home, name="poll-401")
    status, refused, _ = lab.call("GET", headers["azure-asyncoperation"])
    assert status == 401
    assert "www-authenticate" in refused
    assert finish(lab, headers["azure-asyncoperation"])[1]["status"] == "Succeeded"


def test_a_backup_that_was_accepted_answers_conflict(lab: Any) -> None:
    mark = lab.last_seq()
    commands.add_fault(lab.home, name="backup-409-accepted")
    status, _, body = backup(lab)
    assert (status, body["error"]["message"]) == (409, "Another backup operation is in progress")
    until = time.monotonic() + 10
    while not any(one.startswith("hsm.backup.done") for one in commands.effects(lab.home, mark)):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_operations_are_stuck_fail_and_vanish(lab: Any) -> None:
    _, headers, _ = backup(lab)
    url = headers["azure-asyncoperation"]
    assert finish(lab, url)[1]["status"] == "Succeeded"
    commands.add_fault(lab.home, kind="lro-stuck", path="/backup/.*", count=3)
    assert [lab.call("GET", url)[2]["status"] for _ in range(4)] == [
        *["InProgress"] * 3,
        "Succeeded",
    ]
    commands.add_fault(lab.home, kind="lro-failed", path="/backup/.*", code="BadParameter")
    assert lab.call("GET", url)[2]["error"]["code"] == "BadParameter"
    commands.add_fault(lab.home, name="failed-without-error", count=1)
    found = lab.call("GET", url)[2]
    assert (found["status"], found["error"]) == ("Failed", None)
    commands.add_fault(lab.home, kind="lro-vanished", path="/backup/.*")
    assert lab.call("GET", url)[0] == 404


def test_a_job_fails_for_good_and_leaves_nothing(lab: Any) -> None:
    commands.add_fault(lab.home, kind="job-failed", path="backup", message="The disk is full.")
    _, headers, _ = backup(lab)
    _, body = finish(lab, headers["azure-asyncoperation"])
    assert (body["status"], body["azureStorageBlobContainerUri"]) == ("Failed", None)
    assert "The disk is full." in body["error"]["message"]
    _, headers, _ = backup(lab)
    assert finish(lab, headers["azure-asyncoperation"])[1]["status"] == "Succeeded"


def test_a_name_does_not_resolve(lab: Any) -> None:
    commands.add_fault(lab.home, name="no-such-name")
    with pytest.raises(ConnectionError, match="502"):
        lab.call("GET", KEYS)
    assert commands.clear_faults(lab.home) == 1
    assert lab.call("GET", KEYS)[0] == 200


def test_what_is_random_follows_from_the_seed(lab: Any) -> None:
    def pattern(seed: int) -> list[int]:
        commands.clear_faults(lab.home)
        commands.add_fault(
            lab.home, kind="status", path="/keys", count=0, probability=0.5, seed=seed
        )
        return [lab.call("GET", KEYS)[0] for _ in range(12)]

    first = pattern(7)
    assert {200, 503} == set(first)
    assert pattern(7) == first
    assert pattern(8) != first


def test_skip_lets_the_first_ones_pass(lab: Any) -> None:
    commands.add_fault(lab.home, kind="status", path="/keys", skip=2)
    assert [lab.call("GET", KEYS)[0] for _ in range(4)] == [200, 200, 503, 200]
    [rule] = commands.list_faults(lab.home)
    assert (rule["seen"], rule["hit"]) == (3, 1)


@pytest.mark.parametrize("value", ["0", "31536000", "-5", "soon", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_retry_after_says_whatever_it_is_told(lab: Any, value: str) -> None:
    commands.add_fault(lab.home, kind="retry-after", path="/keys", retry_after=value)
    status, headers, _ = lab.call("GET", KEYS)
    assert (status, headers["retry-after"]) == (200, value)


def test_faults_survive_the_server(own_lab: Any) -> None:
    commands.add_fault(own_lab.home, kind="status", path="/keys", count=2)
    assert own_lab.call("GET", KEYS)[0] == 503
    commands.down(own_lab.home)
    commands.up(own_lab.home)
    assert own_lab.call("GET", KEYS)[0] == 503
    assert own_lab.call("GET", KEYS)[0] == 200


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"name": "no-such-fault"}, "unknown fault"),
        ({"kind": "no-such-kind"}, "kind must be one of"),
        ({"kind": "status", "colour": 1}, "unknown members"),
        ({"kind": "status", "path": "("}, "no regular expression"),
    ],
)
def test_a_wrong_rule_is_refused(lab: Any, rule: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        commands.add_fault(lab.home, **rule)
    assert commands.list_faults(lab.home) == []


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_named_fault_can_be_added(lab: Any, name: str) -> None:
    assert commands.add_fault(lab.home, name=name)["kind"] == NAMED[name][1]["kind"]


def test_a_disaster_is_a_named_fault_too(own_lab: Any) -> None:
    assert commands.add_fault(own_lab.home, name="key-disabled", target="app-wrap") == {
        "id": "key-disabled",
        "kind": "disaster",
    }
    shown = own_lab.call("GET", "https://contoso--hsm.managedhsm.azure.net/keys/app-wrap")[2]
    assert shown["attributes"]["enabled"] is False
    with pytest.raises(InputError, match="nowhere"):
        commands.add_fault(own_lab.home, name="key-deleted", target="nowhere")
