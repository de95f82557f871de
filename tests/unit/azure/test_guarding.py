"""What never leaves, never comes back, and is never written down."""

from __future__ import annotations

import asyncio
import html
import json
import logging
import traceback
from urllib.parse import quote

import pytest
from azure.core.rest import HttpRequest

from drengine.azure.cloud import AzureCloud
from drengine.azure.endpoints import Endpoints
from drengine.azure.exchanges import Attempt, attempting, collect_exchanges, redacted_path
from drengine.azure.transport import SharedTransport
from drengine.errors import (
    AzureError,
    GuardError,
    InternalError,
    LabMismatch,
    NotAuthorized,
    UnknownOutcome,
)
from drengine.model.cloud import NewHsm, Operation, OperationKind, StorageTarget
from drengine.model.secret import Secret

HSM = "https://lab--hsm.managedhsm.azure.net"
ARM = "https://management.azure.com"
NEW = NewHsm("rg", "lab--hsm", "uksouth", "t", ("oid",), purge_protection=True, soft_delete_days=7)
SIGNATURE = "c2lnbmF0dXJlK29mK3RoZStjb250YWluZXI%3D"
SAS = f"sv=2021-12-02&sr=c&sp=rl&se=2026-11-29T11%3A27%3A55Z&sig={SIGNATURE}"
TARGET = StorageTarget("https://lab-acct.blob.core.windows.net/backups", Secret(SAS))

FOREIGN = [
    "https://evil.example/backup/1/pending",
    "https://other--hsm.managedhsm.azure.net/backup/1/pending",
    "http://lab--hsm.managedhsm.azure.net/backup/1/pending",
    "https://lab--hsm.managedhsm.azure.net:8443/backup/1/pending",
    "https://lab--hsm.managedhsm.azure.net.evil.example/backup/1/pending",
    "https://management.azure.com/backup/1/pending",
    "https://lab--hsm.managedhsm.azure.net@evil.example/backup/1/pending",
    "",
]


@pytest.mark.parametrize("url", FOREIGN)
async def test_a_status_url_on_another_host_is_not_asked(url, azure, cloud):
    with pytest.raises(GuardError):
        await cloud.operations.poll(Operation(OperationKind.HSM_JOB, url, "1", HSM))
    assert azure.tunnels == []


@pytest.mark.parametrize("url", [f"{HSM}/x", "https://management.azure.com.evil.example/x"])
async def test_a_status_url_outside_the_resource_manager_is_not_asked(url, azure, cloud):
    with pytest.raises(GuardError):
        await cloud.operations.poll(Operation(OperationKind.ARM, url, "1", "/subscriptions/s"))
    assert azure.tunnels == []


async def test_a_next_link_to_a_foreign_host_gets_no_token(azure, cloud, new_reply):
    azure.answer(new_reply(200, body={"value": [], "nextLink": "https://evil.example/more"}))
    with pytest.raises(GuardError):
        await cloud.sql.instances()
    assert set(azure.tunnels) == {"management.azure.com"}


@pytest.mark.parametrize("uri", ["https://evil.example", "https://x.vault.azure.net", "nonsense"])
async def test_only_a_managed_hsm_of_this_cloud_is_a_managed_hsm(uri, cloud):
    with pytest.raises(GuardError):
        cloud.hsm(uri)


async def test_a_key_of_another_hsm_is_not_used(azure, cloud):
    kid = "https://other--hsm.managedhsm.azure.net/keys/k/1"
    with pytest.raises(GuardError):
        await cloud.hsm(HSM).wrap(kid, "RSA-OAEP-256", b"1")
    assert azure.tunnels == []


@pytest.mark.parametrize("lab", [True, False])
async def test_an_answer_from_the_wrong_world_stops_a_read(lab, azure, new_session, new_reply):
    azure.lab = not lab
    azure.answer(new_reply(200, body={}))
    async with AzureCloud(new_session(lab=lab)) as cloud:
        with pytest.raises(LabMismatch):
            await cloud.hsms.get("rg", "lab--hsm")
    assert len(azure.authorised()) == 1


@pytest.mark.parametrize("lab", [True, False])
async def test_the_wrong_world_never_gets_a_changing_request(lab, azure, new_session, new_reply):
    azure.lab = not lab
    azure.answer(new_reply(202))
    async with AzureCloud(new_session(lab=lab)) as cloud:
        with pytest.raises(LabMismatch):
            await cloud.hsms.create_hsm(NEW)
        with pytest.raises(LabMismatch):
            await cloud.hsm(HSM).start_backup(TARGET)
    assert azure.authorised() == []


async def test_a_world_that_changes_after_it_was_known_leaves_an_unknown_outcome(
    azure, cloud, new_reply
):
    azure.answer(new_reply(202))
    await cloud.hsms.create_hsm(NEW)
    azure.lab = False
    with pytest.raises(UnknownOutcome, match="not a drengine lab"):
        await cloud.hsms.create_hsm(NEW)


async def test_only_a_refusal_without_a_server_header_may_come_from_the_labs_proxy(
    azure, cloud, new_reply
):
    azure.answer(new_reply(403, body=b"refused", lab=False))
    with pytest.raises(LabMismatch):
        await cloud.hsms.get("rg", "lab--hsm")
    azure.answer(new_reply(403, body=b"refused", lab=False, server=False))
    with pytest.raises(NotAuthorized):
        await cloud.hsms.get("rg", "lab--hsm")


async def test_a_host_that_only_a_proxy_answered_for_gets_no_changing_request(
    azure, cloud, new_reply
):
    refusal = new_reply(502, body=b"no route", lab=False, server=False)
    azure.answer(refusal)
    azure.unauthorised = lambda _: refusal
    with pytest.raises(AzureError) as caught:
        await cloud.hsms.create_hsm(NEW)
    assert caught.value.transient
    assert azure.changing() == []


def test_a_lab_session_needs_a_proxy_on_this_machine(authority):
    trust = {"SSL_CERT_FILE": str(authority.file)}
    for proxy in ("", "http://10.0.0.1:3128", "http://proxy.example:80"):
        with pytest.raises(LabMismatch):
            SharedTransport(Endpoints(), lab=True, environ={**trust, "HTTPS_PROXY": proxy})
    for proxy in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"):
        SharedTransport(Endpoints(), lab=True, environ={**trust, "HTTPS_PROXY": proxy})


async def test_outside_a_lab_the_proxy_and_no_proxy_of_the_environment_hold(
    azure, new_session, new_reply, monkeypatch
):
    azure.lab = False
    azure.answer(new_reply(200, body={"name": "x"}))
    async with AzureCloud(new_session(lab=False)) as cloud:
        assert await cloud.hsms.get("rg", "lab--hsm")
        monkeypatch.setenv("NO_PROXY", "management.azure.com")
        assert cloud._session.transport._proxy_for(ARM) is None


async def test_in_a_lab_no_proxy_cannot_lead_past_the_lab(azure, cloud, new_reply, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    azure.answer(new_reply(200, body={"name": "x"}))
    assert await cloud.hsms.get("rg", "lab--hsm")


async def test_the_password_of_a_proxy_is_used_and_not_shown(azure, new_session, monkeypatch):
    azure.refuse_tunnels = True
    proxy = azure.proxy.replace("http://", "http://me:hunter2@")
    async with AzureCloud(new_session(lab=False)) as cloud:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        with pytest.raises(AzureError) as caught:
            await cloud.hsms.create_hsm(NEW)
    assert "403" in caught.value.message
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert azure.proxy_authorization == ["Basic bWU6aHVudGVyMg=="]


async def test_a_second_changing_request_in_one_attempt_is_refused(azure, cloud, new_reply):
    azure.answer(new_reply(500))
    transport = cloud._session.transport
    with attempting(Attempt("a test", may_change=True)):
        for _ in range(2):
            request = HttpRequest("PUT", f"{ARM}/x", headers={"Authorization": "Bearer t"})
            try:
                await transport.send(request)
            except InternalError as error:
                refused = error
    assert "second time" in refused.message
    assert len(azure.changing()) == 1


async def test_two_changing_requests_at_once_in_one_attempt_are_one(azure, new_session, new_reply):
    azure.answer(new_reply(202, body={"jobId": "j"}))

    async def put(transport):
        request = HttpRequest("PUT", f"{HSM}/restore", headers={"Authorization": "Bearer t"})
        return await transport.send(request)

    async with AzureCloud(new_session()) as cloud:
        transport = cloud._session.transport
        with attempting(Attempt("a test", may_change=True)):
            done = await asyncio.gather(*[put(transport) for _ in range(3)], return_exceptions=True)

    assert [type(one) for one in done].count(InternalError) == 2
    assert len(azure.changing()) == 1


async def test_a_change_in_the_attempt_of_another_host_is_not_sent(azure, cloud, new_reply):
    azure.answer(new_reply(401))
    transport = cloud._session.transport
    with attempting(Attempt("a test", may_change=True)):
        for url in (f"{ARM}/x", f"{HSM}/x"):
            request = HttpRequest("PUT", url, headers={"Authorization": "Bearer t"})
            try:
                await transport.send(request)
            except GuardError as error:
                refused = error
    assert "lab--hsm.managedhsm.azure.net" in refused.message
    assert set(azure.tunnels) == {"management.azure.com"}


@pytest.mark.parametrize("url", ["https://evil.example/x", "https://x.vault.azure.net/x"])
async def test_no_request_goes_to_a_host_outside_the_cloud(url, azure, cloud):
    for attempt in (Attempt("a test", may_change=False), Attempt("a test", may_change=True)):
        with attempting(attempt), pytest.raises(GuardError):
            await cloud._session.transport.send(HttpRequest("GET", url))
    assert azure.tunnels == []


async def test_a_url_that_cannot_be_read_is_refused(azure, cloud):
    for url in ("https://[bad/x", f"{HSM}:99999/x"):
        with pytest.raises(GuardError):
            await cloud._session.transport.send(HttpRequest("GET", url))
        operation = Operation(OperationKind.HSM_JOB, url, "1", HSM)
        with pytest.raises(GuardError, match="cannot be read"):
            await cloud.operations.poll(operation)
    assert azure.tunnels == []


async def test_a_changing_request_outside_a_sending_attempt_is_refused(azure, cloud):
    request = HttpRequest("DELETE", f"{ARM}/x", headers={"Authorization": "Bearer t"})
    with pytest.raises(InternalError):
        await cloud._session.transport.send(request)
    with attempting(Attempt("a test", may_change=False)), pytest.raises(InternalError):
        await cloud._session.transport.send(request)
    assert azure.tunnels == []


async def test_netrc_is_not_read(azure, cloud, new_reply, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    azure.answer(new_reply(200, body={"name": "x"}))
    assert await cloud.hsms.get("rg", "lab--hsm")
    assert azure.authorised()[0].headers["authorization"].startswith("Bearer ")


def test_a_path_keeps_allow_listed_query_keys_only():
    url = f"https://h/c?restype=container&comp=list&{SAS}&api-version=2025-07-01&t=1&c=MII&s=x&h=y"
    assert redacted_path(url) == "/c?restype=container&comp=list&api-version=2025-07-01"


@pytest.mark.parametrize("coding", [str, quote, lambda text: quote(quote(text)), html.escape])
async def test_a_sas_that_is_quoted_in_an_encoding_is_masked(coding, azure, cloud, new_reply):
    said = coding(f"https://lab-acct.blob.core.windows.net/c?{SAS} or {SIGNATURE} alone")
    body = {"error": {"code": said, "message": said}}
    shown = []
    for status in (400, 403, 429, 500):
        azure.answer(new_reply(status, body=body))
        try:
            await cloud.hsm(HSM).start_restore(TARGET, "mhsm-x-1")
        except (AzureError, UnknownOutcome) as error:
            shown += [json.dumps(error.to_json()), str(error), getattr(error, "service_code", "")]
    azure.answer(new_reply(200, body={"status": "Failed", **body, "jobId": "1"}))
    found = await cloud.operations.poll(
        Operation(OperationKind.HSM_JOB, f"{HSM}/restore/1/pending", "1", HSM)
    )
    shown.append(found.error_code)
    assert len(shown) == 13
    assert [text for text in shown if "c2lnbmF0dXJl" in text] == []


async def test_a_sas_appears_in_no_exchange_error_or_log(azure, cloud, new_reply, caplog):
    caplog.set_level(logging.DEBUG)
    echo = f"AuthenticationFailed: {SAS} did not match; token={SAS}; sig%3D{SIGNATURE}"
    written = []
    with collect_exchanges() as exchanges:
        for status in (403, 409, 500, 200):
            azure.answer(new_reply(status, body={"error": {"code": "X", "message": echo}}))
            for call in (
                lambda: cloud.hsm(HSM).start_backup(TARGET),
                lambda: cloud.hsm(HSM).start_restore(TARGET, "mhsm-x-20261122000000"),
                lambda: cloud.storage.list_blobs(TARGET, "mhsm-"),
            ):
                try:
                    written.append(repr(await call()))
                except (AzureError, UnknownOutcome) as error:
                    written += [json.dumps(error.to_json()), *traceback.format_exception(error)]
    written += [json.dumps(exchange.to_json()) for exchange in exchanges]
    written += [record.getMessage() for record in caplog.records]
    assert any(exchange.sent for exchange in exchanges)
    sent = [a for a in azure.arrivals if SIGNATURE in a.target or SIGNATURE.encode() in a.body]
    assert sent
    shown = [line for line in written if SIGNATURE in line or SIGNATURE[:-3] in line]
    assert shown == []
    assert [line for line in written if "token-1" in line] == []
