"""What happens to a request that changes something: once on the wire, and an honest result."""

from __future__ import annotations

import pytest

from drengine.azure.cloud import AzureCloud
from drengine.azure.exchanges import collect_exchanges
from drengine.errors import AzureError, DrError, NotAuthorized, Throttled, UnknownOutcome
from drengine.model.cloud import NewHsm, Operation, OperationKind, RoleAssignment, StorageTarget

HSM = "https://lab--hsm.managedhsm.azure.net/"
SQL = (
    "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/rg"
    "/providers/Microsoft.Sql/managedInstances/sqlmi-a"
)
ROLE = "515eb02d-2335-4d2d-92f2-b1cbdf9c3778"
NEW = NewHsm("rg", "lab--hsm", "uksouth", "t", ("oid",), purge_protection=True, soft_delete_days=7)
TARGET = StorageTarget("https://lab-acct.blob.core.windows.net/c")
ASSIGNMENT = RoleAssignment("33333333-3333-4333-8333-333333333333", "/keys", ROLE, "oid")

SENDS = {
    "PUT hsm": lambda c: c.hsms.create_hsm(NEW),
    "PATCH hsm": lambda c: c.hsms.start_update("rg", "lab--hsm", {"tags": {"a": "b"}}),
    "DELETE hsm": lambda c: c.hsms.start_delete("rg", "lab--hsm"),
    "POST purge": lambda c: c.hsms.start_purge("uksouth", "lab--hsm"),
    "POST upload": lambda c: c.hsm(HSM).start_upload(b"{}"),
    "POST backup": lambda c: c.hsm(HSM).start_backup(TARGET),
    "PUT restore": lambda c: c.hsm(HSM).start_restore(TARGET, "mhsm-a-20261122000000"),
    "PUT prerestore": lambda c: c.hsm(HSM).start_restore_check(TARGET, "mhsm-a-20261122000000"),
    "PUT role": lambda c: c.hsm(HSM).put_role_assignment(ASSIGNMENT),
    "PUT key": lambda c: c.sql.put_key(SQL, "h_k_v", f"{HSM}keys/k/v"),
    "PUT protector": lambda c: c.sql.put_protector(SQL, "h_k_v"),
    "POST validate": lambda c: c.sql.start_validate(SQL, f"{HSM}keys/k/v"),
    "POST reevaluate": lambda c: c.sql.start_reevaluate(SQL),
}
each_send = pytest.mark.parametrize("send", SENDS.values(), ids=SENDS.keys())
KINDS = ("PUT hsm", "PATCH hsm", "DELETE hsm", "POST upload", "PUT restore", "PUT role", "PUT key")
each_kind = pytest.mark.parametrize("send", [SENDS[name] for name in KINDS], ids=KINDS)
"""One for each method and each SDK client; `each_send` is for what matters most."""


def error_body(code, message="no"):
    return {"error": {"code": code, "message": message}}


async def refused(call, kind=DrError):
    with pytest.raises(kind) as caught:
        await call
    assert type(caught.value) is kind
    return caught.value


@each_send
async def test_a_connection_closed_after_the_request_was_read_is_an_unknown_outcome(
    send, azure, cloud, new_reply
):
    azure.script = lambda _: new_reply(close=True)

    await refused(send(cloud), UnknownOutcome)

    assert len(azure.changing()) == 1


@each_kind
@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 307])
async def test_an_answer_that_does_not_tell_is_an_unknown_outcome(
    send, status, azure, cloud, new_reply
):
    headers = {"retry-after": "0", "location": "https://management.azure.com/elsewhere"}
    azure.script = lambda _: new_reply(status, headers, error_body("Sorry"))

    error = await refused(send(cloud), UnknownOutcome)

    assert str(status) in error.message
    assert len(azure.changing()) == 1


@each_kind
async def test_throttling_is_a_refusal_with_the_wait_that_was_asked_for(
    send, azure, cloud, new_reply
):
    azure.script = lambda _: new_reply(429, {"retry-after": "7"}, error_body("TooMany"))

    error = await refused(send(cloud), Throttled)

    assert (error.status, error.retry_after_seconds, error.transient) == (429, 7, True)
    assert len(azure.changing()) == 1


@each_kind
async def test_a_conflict_is_a_refusal_with_its_code(send, azure, cloud, new_reply):
    azure.script = lambda _: new_reply(409, {"retry-after": "1"}, error_body("Conflict"))

    error = await refused(send(cloud), AzureError)

    assert (error.status, error.service_code, error.transient) == (409, "Conflict", False)
    assert len(azure.changing()) == 1


@each_kind
async def test_forbidden_is_not_authorized_and_had_no_effect(send, azure, cloud, new_reply):
    azure.script = lambda _: new_reply(403, body=error_body("Forbidden", "no such right"))

    error = await refused(send(cloud), NotAuthorized)

    assert (error.status, error.service_code) == (403, "Forbidden")
    assert "no such right" in error.message
    assert len(azure.changing()) == 1


@each_send
async def test_a_truncated_answer_is_an_unknown_outcome(send, azure, cloud, new_reply):
    azure.script = lambda _: new_reply(202, body=b"{" + b" " * 500 + b"}", cut=20)

    await refused(send(cloud), UnknownOutcome)

    assert len(azure.changing()) == 1


@each_kind
async def test_a_web_page_in_place_of_an_answer_is_an_unknown_outcome(
    send, azure, cloud, new_reply
):
    page = b"<html>Welcome to the guest network</html>"
    azure.script = lambda _: new_reply(200, {"content-type": "text/html"}, page)

    await refused(send(cloud), UnknownOutcome)

    assert len(azure.changing()) == 1


@each_kind
async def test_a_tunnel_that_the_proxy_refuses_means_that_nothing_was_sent(send, azure, cloud):
    azure.refuse_tunnels = True

    error = await refused(send(cloud), AzureError)

    assert error.transient
    assert azure.arrivals == []


@each_kind
async def test_a_token_that_is_refused_is_replaced_for_the_next_try(
    send, azure, cloud, tokens, new_reply
):
    azure.script = lambda _: new_reply(401, body=error_body("ExpiredAuthenticationToken"))

    error = await refused(send(cloud), NotAuthorized)
    before = len(tokens.given)
    await refused(send(cloud), NotAuthorized)

    assert error.hint == "az login"
    assert len(tokens.given) > before


async def test_an_answer_that_never_ends_is_an_unknown_outcome(azure, new_session, new_reply):
    azure.script = lambda _: new_reply(hang_seconds=1)
    async with AzureCloud(new_session(total_seconds=0.3)) as cloud:
        await refused(cloud.hsms.create_hsm(NEW), UnknownOutcome)

    assert len(azure.changing()) == 1


async def test_an_answer_larger_than_the_limit_is_an_unknown_outcome(
    azure, cloud, new_reply, monkeypatch
):
    monkeypatch.setattr("drengine.azure.transport.MAX_BODY_BYTES", 1000)
    azure.script = lambda _: new_reply(202, body=b" " * 5000)

    await refused(cloud.hsms.create_hsm(NEW), UnknownOutcome)

    assert len(azure.changing()) == 1


@pytest.mark.parametrize("retry_after", ["Fri, 31 Dec 1999 23:59:59 GMT", "soon", "-1", "1e9"])
async def test_a_retry_after_that_the_sdk_cannot_read_does_not_lose_an_accepted_request(
    retry_after, azure, cloud, new_reply
):
    url = "https://management.azure.com/op/managedHsmOperationResults/1?api-version=x"
    azure.script = lambda _: new_reply(202, {"retry-after": retry_after, "location": url})

    operation = await cloud.hsms.create_hsm(NEW)

    assert (operation.kind, operation.url, operation.job) == (OperationKind.ARM, url, "1")


@pytest.mark.parametrize(
    ("headers", "asked_ms"),
    [({}, None), ({"retry-after": "7"}, 7_000), ({"retry-after-ms": "40"}, 40)],
)
async def test_what_the_first_answer_asks_for_goes_with_the_operation(
    headers, asked_ms, azure, cloud, new_reply
):
    url = "https://management.azure.com/op/managedHsmOperationResults/1?api-version=x"
    azure.script = lambda _: new_reply(202, {**headers, "location": url})

    operation = await cloud.hsms.create_hsm(NEW)

    assert operation.retry_after_ms == asked_ms
    assert Operation.from_json(operation.to_json()) == operation


async def test_a_missing_provider_registration_is_not_repaired_behind_the_journal(
    azure, cloud, new_reply
):
    azure.script = lambda _: new_reply(409, body=error_body("MissingSubscriptionRegistration"))

    await refused(cloud.hsms.create_hsm(NEW), AzureError)

    assert [a.method for a in azure.changing()] == ["PUT"]


async def test_a_role_assignment_that_exists_counts_as_done(azure, cloud, new_reply):
    azure.script = lambda _: new_reply(409, body=error_body("RoleAssignmentExists"))

    await cloud.hsm(HSM).put_role_assignment(ASSIGNMENT)

    assert len(azure.changing()) == 1


async def test_a_backup_that_is_accepted_without_a_job_is_an_unknown_outcome(
    azure, cloud, new_reply
):
    azure.script = lambda _: new_reply(202, body={"status": "InProgress"})

    await refused(cloud.hsm(HSM).start_backup(TARGET), UnknownOutcome)

    assert len(azure.changing()) == 1


async def test_a_host_answers_something_harmless_before_its_first_changing_request(
    azure, cloud, new_reply
):
    azure.script = lambda _: new_reply(202)

    await cloud.hsms.create_hsm(NEW)
    await cloud.hsms.start_delete("rg", "lab--hsm")

    assert [(a.method, a.is_authorised) for a in azure.arrivals] == [
        ("GET", False),
        ("PUT", True),
        ("DELETE", True),
    ]


async def test_the_journal_may_choose_the_client_request_id_beforehand(azure, cloud, new_reply):
    azure.script = lambda _: new_reply(202, {"x-ms-request-id": "theirs"})

    with collect_exchanges("ours") as exchanges:
        await cloud.hsms.create_hsm(NEW)

    sent = [exchange for exchange in exchanges if exchange.sent]
    assert [(e.client_request_id, e.request_id) for e in sent] == [("ours", "theirs")]
    assert azure.changing()[0].headers["x-ms-client-request-id"] == "ours"


@each_send
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 429, 499])
async def test_a_refusal_that_is_not_the_services_own_is_an_unknown_outcome(
    send, status, azure, cloud, new_reply
):
    page = b"<html>blocked by policy</html>"
    azure.script = lambda _: new_reply(status, {"content-type": "text/html"}, page)

    error = await refused(send(cloud), UnknownOutcome)

    assert str(status) in error.message
    assert len(azure.changing()) == 1


@each_kind
async def test_a_service_that_refuses_without_a_word_is_known_by_its_request_id(
    send, azure, cloud, new_reply
):
    azure.script = lambda _: new_reply(403, {"x-ms-request-id": "1"})

    error = await refused(send(cloud), NotAuthorized)

    assert "403" in error.message
    assert len(azure.changing()) == 1


@pytest.mark.parametrize("send", [SENDS["POST purge"], SENDS["POST reevaluate"]])
@pytest.mark.parametrize("headers", [{}, {"location": "https://[bad"}])
async def test_an_action_that_names_no_operation_is_an_unknown_outcome(
    send, headers, azure, cloud, new_reply
):
    azure.script = lambda _: new_reply(202, headers)

    error = await refused(send(cloud), UnknownOutcome)

    assert "names no operation" in error.message
    assert len(azure.changing()) == 1


@pytest.mark.parametrize("status", [202, 204])
async def test_a_validation_that_names_no_operation_proves_nothing(status, azure, cloud, new_reply):
    azure.script = lambda _: new_reply(status)

    error = await refused(SENDS["POST validate"](cloud), AzureError)

    assert error.transient
    assert "not proven" in error.message


@pytest.mark.parametrize("name", ["POST validate", "POST reevaluate"])
async def test_an_action_that_is_done_at_once_has_no_operation(name, azure, cloud, new_reply):
    azure.script = lambda _: new_reply(200)

    assert await SENDS[name](cloud) is None


async def test_a_relative_location_is_one_of_the_resource_manager(azure, cloud, new_reply):
    path = "/subscriptions/s/providers/p/locations/l/managedInstanceOperationResults/1"
    azure.script = lambda _: new_reply(202, {"location": f"{path}?api-version=1"})

    found = await SENDS["POST reevaluate"](cloud)

    assert (found.url, found.job) == (f"https://management.azure.com{path}?api-version=1", "1")
