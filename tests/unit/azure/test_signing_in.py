"""Tokens are cached, renewed early, and dropped when they are refused."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from azure.core.credentials import AccessTokenInfo

from drengine.azure import auth
from drengine.azure.auth import CachedCredential, claims_unverified, open_session, session_of
from drengine.azure.cloud import AzureCloud
from drengine.azure.endpoints import Endpoints
from drengine.errors import AzureError, InputError, LabMismatch, NotAuthorized, Throttled

SCOPE = "https://management.azure.com/.default"


class Issuer:
    """Gives out numbered tokens at a clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.options: list[object] = []

    async def fetch(self, _scopes: tuple[str, ...], options: object) -> AccessTokenInfo:
        self.options.append(options)
        await asyncio.sleep(0)
        return AccessTokenInfo(f"t{len(self.options)}", int(self.now) + 3600)

    def credential(self) -> CachedCredential:
        return CachedCredential(self.fetch, now=lambda: self.now)


async def test_a_token_is_renewed_five_minutes_before_it_expires():
    issuer = Issuer()
    credential = issuer.credential()
    assert (await credential.get_token_info(SCOPE)).token == "t1"
    issuer.now += 3299
    assert (await credential.get_token(SCOPE)).token == "t1"
    issuer.now += 2
    assert (await credential.get_token_info(SCOPE)).token == "t2"


async def test_tokens_for_other_scopes_are_kept_apart():
    credential = Issuer().credential()
    tokens = [(await credential.get_token_info(scope)).token for scope in ("a", "b", "a")]
    assert tokens == ["t1", "t2", "t1"]


async def test_many_askers_at_once_cause_one_request():
    issuer = Issuer()
    credential = issuer.credential()
    found = await asyncio.gather(*(credential.get_token_info(SCOPE) for _ in range(50)))
    assert {token.token for token in found} == {"t1"}


async def test_a_forgotten_token_and_a_claims_challenge_cause_a_fresh_one():
    issuer = Issuer()
    credential = issuer.credential()
    await credential.get_token_info(SCOPE)
    credential.forget()
    assert (await credential.get_token_info(SCOPE)).token == "t2"
    assert (await credential.get_token(SCOPE, claims="{}")).token == "t3"
    assert issuer.options[-1] == {"claims": "{}"}


def token_with(claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}."


def test_claims_are_read_without_a_check_and_nonsense_has_none():
    assert claims_unverified(token_with({"oid": "me"})) == {"oid": "me"}
    for nonsense in ("", "a.b", "a.!!!.c", token_with([1])):
        assert claims_unverified(nonsense) == {}


@pytest.fixture
def environ(azure):
    return {
        "AZURE_SUBSCRIPTION_ID": "s",
        "AZURE_TENANT_ID": "11111111-1111-4111-8111-111111111111",
        "AZURE_CLIENT_ID": "c",
        "AZURE_CLIENT_SECRET": "hunter2",
        "HTTPS_PROXY": azure.proxy,
        "SSL_CERT_FILE": str(azure.authority.file),
    }


async def test_the_principal_is_the_object_id_of_the_token(azure, environ, new_reply):
    token = token_with({"oid": "my-oid", "tid": "my-tenant"})
    issued = {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}
    azure.answer(new_reply(200, body=issued))
    async with AzureCloud(open_session("environment", True, environ=environ)) as cloud:
        found = await cloud.identity.whoami()
    assert (found.principal, found.tenant, found.subscription) == ("my-oid", "my-tenant", "s")
    assert found.lab


async def test_a_refused_secret_is_not_authorized_and_is_not_shown(azure, environ, new_reply):
    refusal = {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid secret"}
    azure.answer(new_reply(401, body=refusal))
    async with AzureCloud(open_session("environment", True, environ=environ)) as cloud:
        with pytest.raises(NotAuthorized) as caught:
            await cloud.hsms.get("rg", "x")
    assert "AADSTS7000215" in caught.value.message
    assert "hunter2" not in str(caught.value.to_json())
    assert {arrival.host for arrival in azure.arrivals} == {"login.microsoftonline.com"}


@pytest.mark.parametrize(
    "name", ["AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_SUBSCRIPTION_ID"]
)
def test_what_is_missing_in_the_environment_is_named(name, environ):
    del environ[name]
    with pytest.raises(NotAuthorized, match=name):
        open_session("environment", True, environ=environ)


def test_an_unknown_authority_is_refused(environ):
    with pytest.raises(InputError, match="evil"):
        open_session(
            "environment", True, environ={**environ, "AZURE_AUTHORITY_HOST": "evil.example"}
        )


def test_a_sovereign_cloud_is_known_by_its_authority(environ):
    found = open_session(
        "environment", True, environ={**environ, "AZURE_AUTHORITY_HOST": "login.chinacloudapi.cn"}
    )
    assert found.endpoints.hsm_suffix == "managedhsm.azure.cn"


@pytest.mark.parametrize(
    ("status", "headers", "kind", "wait"),
    [
        (429, {"retry-after": "3600"}, Throttled, 600),
        (429, {"retry-after": "7"}, Throttled, 7),
        (503, {"retry-after": "3600"}, AzureError, 600),
        (500, {}, AzureError, None),
        (504, {}, AzureError, None),
    ],
)
async def test_a_sign_in_that_is_to_wait_is_not_slept_over_and_is_no_refusal(
    status, headers, kind, wait, azure, environ, new_reply
):
    azure.answer(new_reply(status, headers, {"error": "temporarily_unavailable"}))
    async with AzureCloud(open_session("environment", True, environ=environ)) as cloud:
        async with asyncio.timeout(10):
            with pytest.raises(AzureError) as caught:
                await cloud.identity.whoami()
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.transient, error.retry_after_seconds) == (status, True, wait)
    assert len([a for a in azure.arrivals if a.method == "POST"]) == 1


@pytest.mark.parametrize("status", [200, 403, 404])
async def test_a_page_of_something_in_between_refuses_no_sign_in(status, azure, environ, new_reply):
    azure.answer(new_reply(status, {"content-type": "text/html"}, b"<html>guest network</html>"))
    async with AzureCloud(open_session("environment", True, environ=environ)) as cloud:
        with pytest.raises(AzureError) as caught:
            await cloud.identity.whoami()
    assert (type(caught.value), caught.value.transient) == (AzureError, True)


async def test_a_sign_in_that_cannot_be_reached_is_no_refusal(azure, environ, new_reply):
    azure.answer(new_reply(close=True))
    async with AzureCloud(open_session("environment", True, environ=environ)) as cloud:
        with pytest.raises(AzureError) as caught:
            await cloud.identity.whoami()
    assert (type(caught.value), caught.value.transient) == (AzureError, True)


@pytest.fixture
def silence(monkeypatch):
    """A call into the Azure CLI that never comes back."""
    monkeypatch.setattr(auth, "SIGN_IN_SECONDS", 0.2)
    stopped = threading.Event()
    yield lambda *_, **__: stopped.wait()
    stopped.set()


async def test_a_sign_in_of_the_cli_that_hangs_is_left(silence, monkeypatch, capsys):
    monkeypatch.setattr(auth, "_cli_account", silence)
    seen: list[int] = []
    turns = asyncio.create_task(turning(seen))
    with pytest.raises(AzureError, match=r"0\.2 s") as caught:
        await session_of("azure-cli", lab=False)
    turns.cancel()
    assert caught.value.transient
    assert len(seen) > 3, "the loop went on meanwhile"
    print("a result")
    assert capsys.readouterr().out == "a result\n", "stdout is ours again"


async def turning(seen: list[int]) -> None:
    while True:
        seen.append(len(seen))
        await asyncio.sleep(0.02)


async def test_a_token_of_the_cli_that_hangs_is_left(silence, monkeypatch, authority):
    provider = SimpleNamespace(get_token_info=silence)
    found = (Endpoints(), provider, "s", "t")
    monkeypatch.setattr(auth, "_cli_account", lambda _: found)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setattr(auth, "_ONE_AT_A_TIME", threading.Lock())
    session = await session_of("azure-cli", lab=False)
    for _ in range(2):
        with pytest.raises(AzureError, match="getting a token") as caught:
            await session.whoami()
        assert caught.value.transient


def test_a_thread_that_hangs_does_not_keep_the_process():
    script = (
        "import asyncio, threading\n"
        "from drengine.azure.threads import on_thread\n"
        "async def main():\n"
        "    try: await on_thread(threading.Event().wait, 0.2)\n"
        "    except TimeoutError: print('left')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "left\n"


def test_the_library_of_the_cli_gets_a_timeout(monkeypatch):
    from azure.cli.core.auth.identity import Identity

    monkeypatch.setattr(Identity, "_msal_token_cache", object())
    monkeypatch.setattr(Identity, "_msal_http_cache", object())
    auth._bound_msal()
    auth._bound_msal()
    options = Identity("https://login.microsoftonline.com", "t")._msal_app_kwargs
    assert options["timeout"] == auth.MSAL_SECONDS


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("value", ["*", ".microsoftonline.com", "localhost,management.azure.com"])
async def test_in_a_lab_the_cli_is_not_led_past_its_proxy(name, value, azure, monkeypatch):
    monkeypatch.setattr(auth, "_cli_account", lambda _: pytest.fail("the Azure CLI was asked"))
    monkeypatch.setenv(name, value)
    with pytest.raises(LabMismatch, match="NO_PROXY"):
        await session_of("azure-cli", lab=True)
    assert azure.tunnels == []


@pytest.mark.parametrize(
    "proxies",
    [
        {"HTTPS_PROXY": "http://10.0.0.1:3128"},
        {"HTTPS_PROXY": ""},
        {"https_proxy": "http://10.0.0.1:3128"},
        {"https_proxy": "http://127.0.0.1:1"},
    ],
)
async def test_in_a_lab_the_cli_is_not_asked_through_another_proxy(proxies, azure, monkeypatch):
    monkeypatch.setattr(auth, "_cli_account", lambda _: pytest.fail("the Azure CLI was asked"))
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LabMismatch):
        await session_of("azure-cli", lab=True)
    assert azure.tunnels == []


@pytest.mark.usefixtures("azure")
async def test_in_a_lab_a_no_proxy_for_other_hosts_does_no_harm(monkeypatch):
    found = (Endpoints(), SimpleNamespace(), "s", "t")
    monkeypatch.setattr(auth, "_cli_account", lambda _: found)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1,.corp.example")
    assert (await session_of("azure-cli", lab=True)).subscription == "s"


def test_in_a_lab_two_proxies_that_differ_are_refused(environ):
    other = {**environ, "https_proxy": "http://127.0.0.1:1"}
    with pytest.raises(LabMismatch, match="differ"):
        open_session("environment", True, environ=other)
