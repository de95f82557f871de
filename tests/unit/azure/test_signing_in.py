"""Tokens are cached, renewed early, and dropped when they are refused."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from azure.core.credentials import AccessTokenInfo

from drengine.azure.auth import CachedCredential, claims_unverified, open_session
from drengine.azure.cloud import AzureCloud
from drengine.errors import InputError, NotAuthorized

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
