"""Who is signed in, and the session that everything else works through.

Two ways in, both explicit: `azure-cli` takes the account of `az login` through
azure-cli-core (no `az` process), `environment` the service principal of
`AZURE_CLIENT_ID`, `AZURE_TENANT_ID` and `AZURE_CLIENT_SECRET` (or a certificate).
There is no search through further credentials: in an incident nobody should have to
find out which of eight was used.

azure-cli-core keeps its configuration folder for the life of the process: one
`AZURE_CONFIG_DIR` per process. It blocks, for as long as the network lets it: it is called
on threads, and waited for `SIGN_IN_SECONDS`. It takes the proxy from the environment by
itself: in a lab nothing there may lead past the lab's. Tokens are cached here until five
minutes before they expire; one that a service refuses is dropped by `forget`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.exceptions import AzureError as ClientError

from drengine.azure.answers import redacted, retry_after_seconds, service_error
from drengine.azure.endpoints import CLOUDS, Endpoints, cloud_of_authority, host_of
from drengine.azure.exchanges import Attempt, attempting
from drengine.azure.pipeline import NO_REPEATS, SILENT, Patience, Pipeline
from drengine.azure.ports import AuthKind
from drengine.azure.threads import on_thread
from drengine.azure.transport import SharedTransport, lab_proxy
from drengine.errors import AzureError, InputError, LabMismatch, NotAuthorized, Throttled
from drengine.model.plan import CloudIdentity
from drengine.model.secret import Secret

if TYPE_CHECKING:
    from azure.core.credentials import SupportsTokenInfo
    from azure.identity.aio import CertificateCredential, ClientSecretCredential

__all__ = [
    "AuthKind",
    "CachedCredential",
    "Session",
    "claims_unverified",
    "open_session",
    "session_of",
]

T = TypeVar("T")

FetchToken: TypeAlias = Callable[[tuple[str, ...], TokenRequestOptions], Awaitable[AccessTokenInfo]]

_ONE_AT_A_TIME: Final = threading.Lock()  # MSAL's cache file does not like company
SIGN_IN_SECONDS: Final = 60.0
"""So long a sign-in, or a token, is waited for."""

MSAL_SECONDS: Final = 20
"""So long the Azure CLI's library waits for one answer."""

_BOUND: Final = "_drengine_bound"
_REFUSALS: Final = frozenset({400, 401, 403})
_TOO_MANY: Final = 429

EARLY_SECONDS: Final = 300
"""A token is renewed this long before it expires."""


class CachedCredential:
    """A credential over any way to fetch a token, with a cache that can be dropped.

    Parameters:
        fetch: gets a token for scopes; raises `NotAuthorized` or `AzureError`.
        now: epoch seconds, by the wall clock that issuers use.
    """

    def __init__(self, fetch: FetchToken, now: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._now = now
        self._tokens: dict[tuple[str, ...], AccessTokenInfo] = {}
        self._locks: dict[tuple[str, ...], asyncio.Lock] = {}

    def forget(self) -> None:
        """Drop all tokens."""
        self._tokens.clear()

    async def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """Return a token for `scopes`, from the cache where one lives long enough."""
        wanted: TokenRequestOptions = options or {}
        async with self._locks.setdefault(scopes, asyncio.Lock()):
            held = self._tokens.get(scopes)
            challenged = bool(wanted.get("claims"))
            if held and not challenged and held.expires_on - EARLY_SECONDS > self._now():
                return held
            self._tokens[scopes] = fresh = await self._fetch(scopes, wanted)
            return fresh

    async def get_token(
        self, *scopes: str, claims: str | None = None, tenant_id: str | None = None, **_: Any
    ) -> AccessToken:
        """Return a token the way older clients ask for one."""
        options: TokenRequestOptions = {}
        if claims:
            options["claims"] = claims
        if tenant_id:
            options["tenant_id"] = tenant_id
        found = await self.get_token_info(*scopes, options=options)
        return AccessToken(found.token, found.expires_on)

    async def close(self) -> None:
        """Close nothing: the transport belongs to the session."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in session with one cloud: one credential, one transport.

    Attributes:
        tenant, subscription: GUIDs.
        lab: whether every answer must come from a lab.
    """

    endpoints: Endpoints
    tenant: str
    subscription: str
    lab: bool
    credential: CachedCredential
    transport: SharedTransport
    patience: Patience = Patience()  # noqa: RUF009 (frozen)

    def pipeline(self) -> Pipeline:
        """Return what adapters read and send through."""
        return Pipeline(self.transport, self.credential, self.endpoints, self.patience)

    async def whoami(self) -> CloudIdentity:
        """Return cloud, tenant, subscription and principal.

        Tenant and principal are read from a token for the resource manager. It is not
        verified: it is our own, and what it says is only compared with the plan.

        Raises:
            NotAuthorized: nobody is signed in.
        """
        token = await self.credential.get_token_info(self.endpoints.resource_manager_scope)
        claims = claims_unverified(token.token)
        return CloudIdentity(
            name=self.endpoints.name,
            tenant=str(claims.get("tid") or self.tenant),
            subscription=self.subscription,
            principal=str(claims.get("oid") or ""),
            hsm_suffix=self.endpoints.hsm_suffix,
            storage_suffix=self.endpoints.storage_suffix,
            lab=self.lab,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self.transport.shutdown()


async def session_of(auth: AuthKind, lab: bool) -> Session:
    """Return a session as `open_session` does, without holding up the event loop.

    Raises:
        AzureError: transient; the Azure CLI did not come to an end in time.
        NotAuthorized, LabMismatch: as of `open_session`.
    """
    if auth != "azure-cli":
        return open_session(auth, lab)
    # whatever azure-cli-core prints is talk: stdout is for results
    with contextlib.redirect_stdout(sys.stderr):
        return await _in_time("signing in with the account", lambda: open_session(auth, lab))


def open_session(
    auth: AuthKind, lab: bool, *, subscription: str = "", environ: Mapping[str, str] = os.environ
) -> Session:
    """Return a session for the account that `auth` names; nothing is sent to a service yet.

    The Azure CLI looks up its authority for it, and blocks: see `session_of`.

    Parameters:
        lab: whether the session is for a lab. It then needs the lab's proxy on this machine.
        subscription: its GUID; by default the active one of the CLI, or AZURE_SUBSCRIPTION_ID.

    Raises:
        NotAuthorized: nobody is signed in that way.
        LabMismatch: a lab session without the lab's proxy, or with a way past it.
    """
    if auth == "azure-cli":
        return _cli_session(lab, subscription or environ.get("AZURE_SUBSCRIPTION_ID", ""), environ)
    return _environment_session(lab, subscription, environ)


def claims_unverified(token: str) -> dict[str, Any]:
    """Return the claims of a JWT without any check; empty where it is not one."""
    parts = token.split(".")
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _cli_session(lab: bool, subscription: str, environ: Mapping[str, str]) -> Session:
    if lab:
        _refuse_ways_past(Endpoints(), environ)
    endpoints, provider, active, tenant = _cli_account(subscription)
    if lab:
        _refuse_ways_past(endpoints, environ)

    async def fetch(scopes: tuple[str, ...], options: TokenRequestOptions) -> AccessTokenInfo:
        return await _in_time("getting a token", lambda: _cli_token(provider, scopes, options))

    transport = SharedTransport(endpoints, lab=lab, environ=environ)
    return Session(endpoints, tenant, active, lab, CachedCredential(fetch), transport)


async def _in_time(what: str, call: Callable[[], T]) -> T:
    try:
        return await on_thread(call, SIGN_IN_SECONDS)
    except TimeoutError:
        raise AzureError(
            f"{what} through the Azure CLI: it did not come to an end within "
            f"{SIGN_IN_SECONDS:g} s; nothing was changed",
            transient=True,
            hint="az account get-access-token shows whether the sign-in service is reached",
        ) from None


def _refuse_ways_past(endpoints: Endpoints, environ: Mapping[str, str]) -> None:
    """Refuse an environment in which the Azure CLI would go past the lab's proxy.

    Raises:
        LabMismatch: names what leads past it.
    """
    lab_proxy(environ)
    from requests.utils import should_bypass_proxies  # noqa: PLC0415 (the Azure CLI needs it)

    no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY")
    past = [
        host_of(url)
        for url in (endpoints.authority, endpoints.resource_manager)
        if should_bypass_proxies(url, no_proxy=no_proxy)
    ]
    if past:
        raise LabMismatch(
            "a lab is reached through its own proxy, but NO_PROXY leads past it to "
            f"{' and '.join(past)}; nothing was sent",
            hint="unset NO_PROXY no_proxy, or: drengine lab exec -- drengine …",
        )


def _bound_msal() -> None:
    """Give the Azure CLI's sign-in library a timeout: by itself it has none."""
    from azure.cli.core.auth.identity import Identity  # noqa: PLC0415 (only for this way in)

    known = Identity.__dict__.get("_msal_app_kwargs")
    if not isinstance(known, property) or known.fget is None or hasattr(Identity, _BOUND):
        return  # another release: the time of `SIGN_IN_SECONDS` holds all the same
    options = known.fget
    setattr(Identity, _BOUND, True)
    Identity._msal_app_kwargs = property(  # noqa: SLF001 (there is no other way in)
        lambda self: {**options(self), "timeout": MSAL_SECONDS}
    )


def _cli_account(subscription: str) -> tuple[Endpoints, SupportsTokenInfo, str, str]:
    from azure.cli.core import get_default_cli  # noqa: PLC0415 (150 ms, only for this way in)
    from azure.cli.core._profile import Profile  # noqa: PLC0415
    from knack.util import CLIError  # noqa: PLC0415
    from requests import RequestException  # noqa: PLC0415

    try:
        _bound_msal()
        cli = get_default_cli()
        found = Profile(cli_ctx=cli).get_login_credentials(subscription or None)
        return _cli_endpoints(cli.cloud), *found
    except RequestException as error:
        raise _not_reached("signing in with the account", error) from None
    except (CLIError, OSError, ValueError) as error:
        raise _not_signed_in(error) from None


def _cli_endpoints(cloud: Any) -> Endpoints:
    known = CLOUDS.get(cloud.name, Endpoints())
    return Endpoints(
        name=cloud.name,
        resource_manager=cloud.endpoints.resource_manager.rstrip("/"),
        authority=cloud.endpoints.active_directory.rstrip("/"),
        hsm_suffix=cloud.suffixes.mhsm_dns.lstrip("."),
        storage_suffix=cloud.suffixes.storage_endpoint.lstrip("."),
        sql_suffix=known.sql_suffix,
    )


def _cli_token(
    provider: SupportsTokenInfo, scopes: tuple[str, ...], options: TokenRequestOptions
) -> AccessTokenInfo:
    from knack.util import CLIError  # noqa: PLC0415 (loaded already by this way in)

    try:
        if not _ONE_AT_A_TIME.acquire(timeout=SIGN_IN_SECONDS):
            raise TimeoutError("another token is still being waited for")
        try:
            return provider.get_token_info(*scopes, options=options)
        finally:
            _ONE_AT_A_TIME.release()
    except CLIError as error:
        raise _not_signed_in(error) from None
    except (OSError, ValueError) as error:  # requests' connection errors are OSError
        raise _not_reached("getting a token", error) from None


def _not_reached(what: str, error: Exception) -> AzureError:
    return AzureError(f"{what} through the Azure CLI: {redacted(str(error))}", transient=True)


def _not_signed_in(error: Exception) -> NotAuthorized:
    return NotAuthorized(
        f"signing in with the account of the Azure CLI: {redacted(str(error))}", hint="az login"
    )


def _environment_session(lab: bool, subscription: str, environ: Mapping[str, str]) -> Session:
    active = subscription or environ.get("AZURE_SUBSCRIPTION_ID", "")
    principal = _ServicePrincipal(
        tenant=environ.get("AZURE_TENANT_ID", ""),
        client=environ.get("AZURE_CLIENT_ID", ""),
        secret=Secret(environ.get("AZURE_CLIENT_SECRET", "")),
        certificate=environ.get("AZURE_CLIENT_CERTIFICATE_PATH", ""),
        password=Secret(environ.get("AZURE_CLIENT_CERTIFICATE_PASSWORD", "")),
    )
    missing = principal.missing() + ([] if active else ["AZURE_SUBSCRIPTION_ID"])
    if missing:
        raise NotAuthorized(
            f"signing in from the environment: {', '.join(missing)} not set",
            hint="set them, or sign in with az login and use the account of the Azure CLI",
        )
    endpoints = _environment_cloud(environ.get("AZURE_AUTHORITY_HOST", ""))
    transport = SharedTransport(endpoints, lab=lab, environ=environ)

    async def fetch(scopes: tuple[str, ...], options: TokenRequestOptions) -> AccessTokenInfo:
        return await _environment_token(principal, transport, endpoints, scopes, options)

    return Session(endpoints, principal.tenant, active, lab, CachedCredential(fetch), transport)


def _environment_cloud(authority: str) -> Endpoints:
    found = cloud_of_authority(authority) if authority else Endpoints()
    if found is None:
        raise InputError(
            f"AZURE_AUTHORITY_HOST is {authority!r}, which is no public cloud's",
            hint="use az cloud register, az login and the account of the Azure CLI",
        )
    return found


@dataclass(frozen=True, slots=True)
class _ServicePrincipal:
    """What azure-identity's EnvironmentCredential reads, but from any mapping."""

    tenant: str
    client: str
    secret: Secret
    certificate: str
    password: Secret

    def missing(self) -> list[str]:
        proof = self.secret.reveal() or self.certificate
        wanted = {
            "AZURE_TENANT_ID": self.tenant,
            "AZURE_CLIENT_ID": self.client,
            "AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH": proof,
        }
        return [name for name, value in wanted.items() if not value]

    def credential(self, **options: Any) -> ClientSecretCredential | CertificateCredential:
        from azure.identity.aio import (  # noqa: PLC0415 (250 ms, only for this way in)
            CertificateCredential,
            ClientSecretCredential,
        )

        if self.secret.reveal():
            return ClientSecretCredential(self.tenant, self.client, self.secret.reveal(), **options)
        password = self.password.reveal() or None
        return CertificateCredential(
            self.tenant, self.client, self.certificate, password=password, **options
        )


async def _environment_token(
    principal: _ServicePrincipal,
    transport: SharedTransport,
    endpoints: Endpoints,
    scopes: tuple[str, ...],
    options: TokenRequestOptions,
) -> AccessTokenInfo:
    # a new one each time: the cache above is the only one, so that `forget` is enough
    attempt = Attempt("signing in from the environment", may_change=False, by_post=True)
    try:
        with attempting(attempt):
            credential = principal.credential(
                transport=transport, authority=endpoints.authority, logger=SILENT, **NO_REPEATS
            )
            async with asyncio.timeout(SIGN_IN_SECONDS):
                return await credential.get_token_info(*scopes, options=options)
    except TimeoutError:
        text = f"no answer within {SIGN_IN_SECONDS:g} s"
        raise AzureError(f"{attempt.what}: {text}", transient=True) from None
    except (ClientError, ValueError, OSError) as error:
        raise _no_token(attempt, error) from None


def _no_token(attempt: Attempt, error: Exception) -> AzureError:
    """Return what kept a token from coming: the sign-in service's word, or the way there."""
    message = f"{attempt.what}: {redacted(str(error))}"
    last = attempt.flights[-1] if attempt.flights else None
    if last is None or not last.status:
        if isinstance(error, ClientError) and last is not None:
            return AzureError(message, transient=True)
        return NotAuthorized(message, hint="check AZURE_CLIENT_ID and its secret")
    said = any(service_error(last.body, last.headers))
    if last.status in _REFUSALS and said:
        hint = "check AZURE_CLIENT_ID and its secret"
        return NotAuthorized(message, status=last.status, hint=hint)
    kind = Throttled if last.status == _TOO_MANY else AzureError
    return kind(
        message,
        status=last.status,
        transient=True,
        retry_after_seconds=retry_after_seconds(last.headers),
    )
