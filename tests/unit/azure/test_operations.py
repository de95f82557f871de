"""What the status words of the services mean."""

from __future__ import annotations

import pytest

from drengine.azure.operations import status_of
from drengine.errors import AzureError, UnknownOutcome
from drengine.model.cloud import Operation, OperationKind, OperationState

HSM = "https://lab--hsm.managedhsm.azure.net"
ARM = "https://management.azure.com/subscriptions/s"
JOB = Operation(OperationKind.HSM_JOB, f"{HSM}/backup/1/pending", "1", HSM)
UPLOAD = Operation(OperationKind.SD_UPLOAD, f"{HSM}/securitydomain/upload/pending", "", HSM)
LOCATION = Operation(OperationKind.ARM, f"{ARM}/locations/x/managedHsmOperationResults/1", "1", "r")
RESOURCE = Operation(
    OperationKind.ARM, f"{ARM}/managedHSMs/x?v=1", "", "/subscriptions/s/managedHsms/X"
)
DOWNLOAD = Operation(OperationKind.SD_DOWNLOAD, f"{HSM}/securitydomain/download/pending", "", HSM)
NETWORK = Operation(
    OperationKind.ARM, f"{ARM}/providers/Microsoft.Network/locations/x/operations/1"
)
ASYNC = Operation(OperationKind.ARM, f"{ARM}/locations/x/managedInstanceKeyAzureAsyncOperation/1")

RUNNING, SUCCEEDED, FAILED = (
    OperationState.RUNNING,
    OperationState.SUCCEEDED,
    OperationState.FAILED,
)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("InProgress", RUNNING),
        ("inprogress", RUNNING),
        ("Accepted", RUNNING),
        ("a word of next year", RUNNING),
        ("Success", SUCCEEDED),
        ("Succeeded", SUCCEEDED),
        ("SUCCEEDED", SUCCEEDED),
        ("Failed", FAILED),
        ("Canceled", FAILED),
        ("Cancelled", FAILED),
    ],
)
@pytest.mark.parametrize("operation", [JOB, UPLOAD, ASYNC])
def test_a_status_word_decides(word, state, operation):
    assert status_of(operation, 200, {}, {"status": word}).state is state


@pytest.mark.parametrize(
    ("operation", "status", "body", "state"),
    [
        (LOCATION, 202, {}, RUNNING),
        (LOCATION, 200, {}, SUCCEEDED),
        (LOCATION, 204, {}, SUCCEEDED),
        (LOCATION, 200, {"properties": {"provisioningState": "Provisioning"}}, SUCCEEDED),
        (LOCATION, 200, {"properties": {"provisioningState": "Failed"}}, FAILED),
        (RESOURCE, 200, {"properties": {"provisioningState": "Provisioning"}}, RUNNING),
        (RESOURCE, 200, {"properties": {"provisioningState": "Succeeded"}}, SUCCEEDED),
        (RESOURCE, 200, {"properties": {"provisioningState": "Failed"}}, FAILED),
        (RESOURCE, 200, {"properties": {"thumbprint": "A"}}, SUCCEEDED),
    ],
)
def test_where_there_is_no_word_the_answer_itself_decides(operation, status, body, state):
    assert status_of(operation, status, {}, body).state is state


@pytest.mark.parametrize("operation", [JOB, UPLOAD, DOWNLOAD, ASYNC, NETWORK, LOCATION, RESOURCE])
@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "InternalError", "message": "x"}},
        {"error": {"code": None, "message": "x"}, "status": None},
        {"error": "x"},
        {"code": "InternalError", "message": "x"},
    ],
)
def test_an_error_without_a_word_is_no_success(operation, body):
    found = status_of(operation, 200, {}, body)
    assert (found.state, found.detail) == (FAILED, "x")


@pytest.mark.parametrize("operation", [JOB, UPLOAD, DOWNLOAD, ASYNC, NETWORK])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"status": None, "jobId": "1", "startTime": 1, "endTime": None, "error": None},
        {"status": None, "error": {"code": None, "message": None, "innererror": None}},
        {"properties": {"provisioningState": "Succeeded"}},
    ],
)
@pytest.mark.parametrize("status", [200, 202])
def test_without_a_word_an_operation_runs(operation, body, status):
    assert status_of(operation, status, {}, body).state is RUNNING


def test_the_word_that_it_runs_holds_beside_an_error():
    body = {"status": "InProgress", "error": {"code": "Retrying", "message": "x"}}
    assert status_of(JOB, 200, {}, body).state is RUNNING


def test_a_resource_that_answers_with_nothing_has_no_state():
    assert status_of(RESOURCE, 200, {}, {}).state is RUNNING


@pytest.mark.parametrize("body", [b"<html>gateway</html>", [], b'"Succeeded"'])
@pytest.mark.parametrize("operation", [JOB, UPLOAD, LOCATION, ASYNC])
async def test_an_answer_that_is_no_object_says_nothing(operation, body, azure, cloud, new_reply):
    azure.answer(new_reply(200, body=body if body != [] else b"[]"))
    with pytest.raises(AzureError) as caught:
        await cloud.operations.poll(operation)
    assert caught.value.transient
    with pytest.raises(AzureError) as caught:
        await cloud.hsm(HSM).upload_status()
    assert caught.value.transient


@pytest.mark.parametrize("operation", [JOB, UPLOAD, LOCATION, ASYNC])
@pytest.mark.parametrize(
    ("body", "transient"),
    [(b"<html>404</html>", True), ({"error": {"code": "SubscriptionNotFound"}}, False)],
)
async def test_a_404_of_another_thing_does_not_lose_the_operation(
    operation, body, transient, azure, cloud, new_reply
):
    azure.answer(new_reply(404, body=body))
    with pytest.raises(AzureError) as caught:
        await cloud.operations.poll(operation)
    assert caught.value.transient == transient


def location(number, host="management.azure.com"):
    path = "/subscriptions/s/locations/x/managedHsmOperationResults"
    return f"https://{host}{path}/{number}?t=x"


async def test_the_newest_location_is_asked(azure, cloud, new_reply):
    first = Operation(OperationKind.ARM, location(1), "1", "r")
    azure.answer(
        new_reply(202, {"location": location(2)}),
        new_reply(202, {"location": "/subscriptions/s/locations/x/operationResults/3"}),
        new_reply(202),
        new_reply(200, body={"name": "x"}),
    )
    states = [(await cloud.operations.poll(first)).state for _ in range(4)]
    assert states == [RUNNING, RUNNING, RUNNING, SUCCEEDED]
    assert [a.target.partition("?")[0][-2:] for a in azure.authorised()] == ["/1", "/2", "/3", "/3"]


@pytest.mark.parametrize(
    "newer",
    [
        location(2, "evil.example"),
        location(2, "lab--hsm.managedhsm.azure.net"),
        "http://management.azure.com/operationResults/2",
        "https://[bad/operationResults/2",
        "https://management.azure.com/subscriptions/s",
    ],
)
async def test_a_newer_location_elsewhere_is_not_asked(newer, azure, cloud, new_reply):
    first = Operation(OperationKind.ARM, location(1), "1", "r")
    azure.answer(new_reply(202, {"location": newer}))
    for _ in range(2):
        assert (await cloud.operations.poll(first)).state is RUNNING
    assert [a.target.partition("?")[0][-2:] for a in azure.authorised()] == ["/1", "/1"]


async def test_a_newer_location_that_is_gone_is_forgotten(azure, cloud, new_reply):
    first = Operation(OperationKind.ARM, location(1), "1", "r")
    azure.answer(
        new_reply(202, {"location": location(2)}),
        new_reply(404, body={"error": {"code": "NotFound"}}),
        new_reply(200),
    )
    states = [(await cloud.operations.poll(first)).state for _ in range(2)]
    assert states == [RUNNING, SUCCEEDED]


JOB_AT = {
    "relative": "/restore/j/pending",
    "relative to the request": "restore/j/pending",
    "unreadable": "https://[bad/restore/j/pending",
    "with an impossible port": f"{HSM}:99999/restore/j/pending",
    "none": "",
}


@pytest.mark.parametrize("url", JOB_AT.values(), ids=JOB_AT.keys())
async def test_a_job_whose_id_is_known_can_always_be_asked_for(url, azure, cloud, new_reply):
    named = {"azure-asyncoperation": url} if url else {}
    azure.answer(new_reply(202, named, {"jobId": "j", "status": "InProgress"}))
    operation = await cloud.hsm(HSM).start_restore(_target(), "mhsm-x-1")
    assert (operation.url, operation.job) == (f"{HSM}/restore/j/pending", "j")
    azure.answer(new_reply(200, body=_done()))
    assert (await cloud.operations.poll(operation)).state is SUCCEEDED


async def test_a_job_that_only_a_relative_url_names_is_known(azure, cloud, new_reply):
    azure.answer(new_reply(202, {"location": "/restore/j/pending"}))
    assert (await cloud.hsm(HSM).start_restore(_target(), "mhsm-x-1")).job == "j"


async def test_a_job_that_only_an_unreadable_url_names_is_an_unknown_outcome(
    azure, cloud, new_reply
):
    azure.answer(new_reply(202, {"location": "https://[bad/restore/j/pending"}))
    with pytest.raises(UnknownOutcome):
        await cloud.hsm(HSM).start_restore(_target(), "mhsm-x-1")


def test_a_success_with_an_error_inside_is_a_failure():
    body = {"status": "Succeeded", "error": {"code": "BadParameter", "message": "no"}}
    found = status_of(JOB, 200, {}, body)
    assert (found.state, found.error_code, found.detail) == (FAILED, "BadParameter", "no")


def test_an_empty_error_object_of_an_old_service_is_no_error():
    body = {"status": "Succeeded", "error": {"code": None, "message": None, "innererror": None}}
    assert status_of(JOB, 200, {}, body).state is SUCCEEDED


def test_a_failure_inside_a_200_carries_its_code_and_text():
    error = {"code": "SameKeyMaterialNotFoundOnRemoteServer", "message": "All servers must"}
    found = status_of(ASYNC, 200, {}, {"status": "Failed", "error": error})
    assert (found.state, found.error_code, found.detail) == (
        FAILED,
        "SameKeyMaterialNotFoundOnRemoteServer",
        "All servers must",
    )


def test_a_finished_backup_names_its_folder_and_a_wait_is_passed_on():
    folder = "https://a.blob.core.windows.net/c/mhsm-x-2026"
    body = {"status": "Succeeded", "azureStorageBlobContainerUri": folder}
    found = status_of(JOB, 200, {"retry-after": "3"}, body)
    assert (found.result, found.retry_after_ms) == (folder, 3000)


def test_the_words_of_the_security_domain_are_the_detail():
    body = {"status": "InProgress", "status_details": "The Security Domain is being restored."}
    assert status_of(UPLOAD, 200, {}, body).detail == "The Security Domain is being restored."


@pytest.mark.parametrize("operation", [JOB, UPLOAD, LOCATION, ASYNC])
async def test_a_status_url_that_is_gone_is_lost(operation, azure, cloud, new_reply):
    azure.answer(new_reply(404, body={"error": {"code": "OperationIdNotFound"}}))
    assert (await cloud.operations.poll(operation)).state is OperationState.LOST


async def test_a_gateway_timeout_on_a_poll_is_survived(azure, cloud, new_reply):
    azure.answer(new_reply(504), new_reply(200, body={"status": "Succeeded"}))
    assert (await cloud.operations.poll(LOCATION)).state is SUCCEEDED


async def test_a_poll_of_the_resource_manager_that_is_answered_409_ended_the_operation(
    azure, cloud, new_reply
):
    azure.answer(new_reply(409, body={"error": {"code": "ConflictError", "message": "taken"}}))
    found = await cloud.operations.poll(LOCATION)
    assert (found.state, found.error_code) == (FAILED, "ConflictError")


async def test_a_refused_poll_of_a_job_does_not_end_the_job(azure, cloud, new_reply):
    azure.answer(new_reply(403, body={"error": {"code": "Forbidden"}}))
    with pytest.raises(AzureError):
        await cloud.operations.poll(JOB)


async def test_a_401_to_a_poll_never_sends_the_backup_again(azure, cloud, new_reply):
    accepted = new_reply(202, {"azure-asyncoperation": JOB.url}, {"jobId": "1"})
    azure.answer(accepted)
    operation = await cloud.hsm(HSM).start_backup(_target())
    replies = [new_reply(401, {"www-authenticate": _challenge()}), new_reply(200, body=_done())]
    azure.answer(*replies)
    assert (await cloud.operations.poll(operation)).state is SUCCEEDED
    assert [a.method for a in azure.changing()] == ["POST"]


def _target():
    from drengine.model.cloud import StorageTarget

    return StorageTarget("https://lab-acct.blob.core.windows.net/c")


def _challenge():
    return (
        'Bearer authorization="https://login.microsoftonline.com/t", '
        'resource="https://managedhsm.azure.net"'
    )


def _done():
    return {"status": "Succeeded"}
