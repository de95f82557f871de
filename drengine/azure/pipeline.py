"""From an adapter's call to one honest result: done, refused, or not known.

`Pipeline.read` asks, and asks again within bounds where the fault is transient.
`Pipeline.send` sends what changes something, exactly once, and tells from what really
went over the wire (the attempt's flights) which of three things happened:

- `Answer`: the service accepted it.
- `AzureError` (`NotAuthorized`, `Throttled`): the service refused it, or it never left.
  It had no effect.
- `UnknownOutcome`: it may have had its effect. Look before anything is sent again.

What the SDK above made of the answer (a model that does not fit, a `Retry-After` it cannot
read, a poller it could not build) never decides.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError as ClientError
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.policies import (
    ContentDecodePolicy,
    CustomHookPolicy,
    HeadersPolicy,
    RequestIdPolicy,
    UserAgentPolicy,
)
from azure.mgmt.core.policies import AsyncARMChallengeAuthenticationPolicy

from drengine import __version__
from drengine.azure.answers import (
    Answer,
    is_list_page,
    is_service_error,
    redacted,
    retry_after_seconds,
    service_error,
    without,
)
from drengine.azure.endpoints import Endpoints, host_of
from drengine.azure.exchanges import Attempt, Flight, attempting
from drengine.azure.transport import SharedTransport
from drengine.errors import AzureError, DrError, NotAuthorized, Throttled, UnknownOutcome

T = TypeVar("T")

_UNAUTHORIZED: Final = 401
_NOT_ACTIVATED: Final = "until it is activated"
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_TIMED_OUT: Final = 408
_TOO_MANY: Final = 429
_REDIRECTS: Final = 300
_REFUSALS: Final = 400
_FAULTS: Final = 500

NO_REPEATS: Final = MappingProxyType(
    {
        "retry_total": 0,
        "retry_connect": 0,
        "retry_read": 0,
        "retry_status": 0,
        "permit_redirects": False,
    }
)
"""Options of an SDK client that neither sends again, nor waits, nor follows a redirect."""

SILENT: Final = logging.getLogger("drengine.azure.silent")
SILENT.disabled = True
"""A logger that writes nothing: the SDKs' own would write headers and URLs."""


class Credential(AsyncTokenCredential, Protocol):
    """A credential whose tokens can be dropped when a service no longer takes them."""

    def forget(self) -> None:
        """Drop cached tokens, so that the next one is fresh."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long a read is tried.

    Attributes:
        tries: how often at most.
        first_wait_seconds: doubled with every try, with jitter.
        longest_wait_seconds: of our own waits.
        longest_asked_seconds: a service that asks for more is not asked again from here: the
            engine records the wait, and it outlives this process.
        sleep: waits.
    """

    tries: int = 3
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 10.0
    longest_asked_seconds: float = 30.0
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def wait_seconds(self, done: int, asked: float | None) -> float:
        """Return how long to wait after `done` tries, where the service asked for `asked`."""
        own = min(self.first_wait_seconds * 2 ** (done - 1), self.longest_wait_seconds)
        jitter = 1 + random.random() / 4  # noqa: S311 (spreads load, keeps no secret)
        return jitter * (own if asked is None else asked)


class Pipeline:
    """What adapters read and send through.

    Parameters:
        transport, credential: of the session.
        endpoints: the session's cloud.
        patience: with reads; sends are never repeated here.
    """

    def __init__(
        self,
        transport: SharedTransport,
        credential: Credential,
        endpoints: Endpoints,
        patience: Patience = Patience(),
    ) -> None:
        self.transport = transport
        self.credential = credential
        self.endpoints = endpoints
        self._patience = patience

    def client_options(self) -> dict[str, Any]:
        """Return the keyword arguments of every client: no retries, redirects or logs."""
        return {
            "transport": self.transport,
            **NO_REPEATS,
            "logging_enable": False,
            "logger": SILENT,
            "user_agent": f"drengine/{__version__}",
        }

    def resource_manager_options(self) -> dict[str, Any]:
        """Return the keyword arguments of a resource-manager client.

        The list of policies is closed: the default one would also register providers and
        send the request again by itself.
        """
        scope = self.endpoints.resource_manager_scope
        return {
            "transport": self.transport,
            "base_url": self.endpoints.resource_manager,
            "credential_scopes": [scope],
            "policies": [
                RequestIdPolicy(),
                HeadersPolicy(),
                UserAgentPolicy(f"drengine/{__version__}"),
                ContentDecodePolicy(),
                AsyncARMChallengeAuthenticationPolicy(self.credential, scope),
                CustomHookPolicy(),
            ],
        }

    async def read(
        self,
        what: str,
        call: Callable[[], Awaitable[T]],
        *,
        by_post: bool = False,
        again: bool = True,
        listing: bool = False,
    ) -> T:
        """Call something that only reads, and again where the fault is transient.

        Parameters:
            what: the words for messages: "listing the keys of …".
            by_post: whether it reads by POST (wrapkey, a name check).
            again: whether a transient fault is worth another try; a single try for
                services that tell a lasting state by a 503.
            listing: whether it reads a list, of which every page must then be one: an answer
                without a list does not say that there is nothing.

        Raises:
            AzureError: the service refused, or could not be reached in all tries.
        """
        done = 0
        while True:
            done += 1
            attempt = Attempt(what, may_change=False, by_post=by_post, listing=listing)
            try:
                return await _read_once(attempt, call)
            except AzureError as error:
                if not again or not self._worth_repeating(error, done):
                    raise
                asked = error.retry_after_seconds
                await self._patience.sleep(self._patience.wait_seconds(done, asked))

    async def find(
        self,
        what: str,
        call: Callable[[], Awaitable[T]],
        *,
        absent: Collection[str],
        listing: bool = False,
    ) -> T | None:
        """Read something that may not be there; None where the service itself says so.

        Parameters:
            absent: the codes of a 404 that mean it. Any other 404 (a page of something in
                between, a subscription or a type that is not known) is an error.
            listing: as in `read`.
        """
        try:
            return await self.read(what, call, listing=listing)
        except AzureError as error:
            if error.status == _NOT_FOUND and error.service_code in absent:
                return None
            raise

    async def send(
        self, what: str, call: Callable[[], Awaitable[object]], *, secrets: Sequence[str] = ()
    ) -> Answer:
        """Call something that sends one changing request, and return the answer to it.

        Parameters:
            what: the words for messages: "starting the restore of …".
            secrets: texts of the request that must not be quoted from an answer.

        Raises:
            AzureError: refused, or certainly not sent.
            UnknownOutcome: it may have had its effect.
        """
        attempt = Attempt(what, may_change=True)
        failure: Exception | None = None
        try:
            with attempting(attempt):
                await call()
        except Exception as error:  # noqa: BLE001 (only the flights tell what happened)
            failure = error
        try:
            return _fate(attempt, failure)
        except NotAuthorized as error:
            if error.status == _UNAUTHORIZED:
                self.credential.forget()
            raise _without(secrets, error) from None
        except DrError as error:
            raise _without(secrets, error) from None

    def _worth_repeating(self, error: AzureError, done: int) -> bool:
        if done >= self._patience.tries:
            return False
        if error.status == _UNAUTHORIZED and done == 1:
            self.credential.forget()
            return True
        asked = error.retry_after_seconds or 0.0
        return error.transient and asked <= self._patience.longest_asked_seconds


async def _read_once(attempt: Attempt, call: Callable[[], Awaitable[T]]) -> T:
    try:
        with attempting(attempt):
            found = await call()
    except DrError:
        raise
    except Exception as error:
        last = attempt.flights[-1] if attempt.flights else None
        if last is not None and last.status >= _REDIRECTS:
            raise _refusal(attempt.what, last) from None
        garbled = isinstance(error, ValueError) and last is not None and last.status > 0
        if isinstance(error, (ClientError, ValueError)) and not garbled:
            raise _unreachable(attempt.what, error, last) from None
        if last is None:
            raise  # nothing was asked: a bug here, not a fault of the service
        # the SDK's own models fail in many ways on an answer that is not what it should be
        message = f"{attempt.what}: the answer of {host_of(last.url)} is not understood"
        raise AzureError(message, status=last.status, transient=True) from error
    if attempt.flights and attempt.flights[-1].status >= _REDIRECTS:
        raise _refusal(attempt.what, attempt.flights[-1])
    if attempt.listing:
        _check_pages(attempt)
    return found


def _check_pages(attempt: Attempt) -> None:
    for page in attempt.answered():
        if not is_list_page(page.body):
            raise AzureError(
                f"{attempt.what}: {_described(page)} without a list; whether it holds anything is "
                "not known",
                status=page.status,
                service_code=service_error(page.body, page.headers)[0],
                transient=True,
            )


def _fate(attempt: Attempt, failure: Exception | None) -> Answer:
    sent = [flight for flight in attempt.changing() if flight.left]
    if not sent:
        _raise_unsent(attempt, failure)
    flight = sent[-1]
    answer = Answer(flight.status, flight.headers, flight.body, flight.url)
    if not flight.status:
        raise _unknown(attempt.what, f"no complete answer came ({_named(failure)})")
    if flight.status < _REDIRECTS and isinstance(failure, DrError):
        raise _unknown(attempt.what, redacted(failure.message))
    if flight.status < _REDIRECTS and answer.is_readable():
        return answer
    if flight.status < _REDIRECTS:
        raise _unknown(attempt.what, f"the answer {flight.status} is not one of the service")
    if flight.status < _REFUSALS or flight.status >= _FAULTS or flight.status == _TIMED_OUT:
        raise _unknown(attempt.what, _described(flight))
    if not _is_refused_by_service(flight):
        raise _unknown(attempt.what, f"{_described(flight)}, which is no answer of the service")
    raise _refusal(attempt.what, flight)


def _is_refused_by_service(flight: Flight) -> bool:
    """Tell whether a 4xx is the service's own: what is in between may have passed it on."""
    challenged = flight.status == _UNAUTHORIZED and "www-authenticate" in flight.headers
    return challenged or is_service_error(flight.body, flight.headers)


def _raise_unsent(attempt: Attempt, failure: Exception | None) -> None:
    """Raise what kept the request from leaving; there was no effect."""
    if isinstance(failure, DrError):
        raise failure
    last = attempt.flights[-1] if attempt.flights else None
    if last is not None and last.status >= _REDIRECTS:
        raise _refusal(attempt.what, last)
    if failure is None or isinstance(failure, (ClientError, ValueError, OSError)):
        raise _unreachable(attempt.what, failure or ValueError("nothing was sent"), last)
    raise failure


def _refusal(what: str, flight: Flight) -> AzureError:
    code, _ = service_error(flight.body, flight.headers)
    status = flight.status
    if status == _NOT_FOUND and not flight.body and is_service_error(b"", flight.headers):
        code = code or str(status)  # the code that the provider of Managed HSMs itself gives
    message = f"{what}: {_described(flight)}"
    wait = retry_after_seconds(flight.headers)
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        return NotAuthorized(message, status=status, service_code=code, hint=_hint(status, message))
    if status == _TOO_MANY:
        return Throttled(
            message, status=status, service_code=code, transient=True, retry_after_seconds=wait
        )
    return AzureError(
        message,
        status=status,
        service_code=code,
        transient=status == _TIMED_OUT or status >= _FAULTS,
        retry_after_seconds=wait,
    )


def _described(flight: Flight) -> str:
    code, text = service_error(flight.body, flight.headers)
    found = f"{host_of(flight.url)} answered {flight.status}"
    return ": ".join(part for part in (f"{found} {code}".rstrip(), text) if part)


def _hint(status: int, message: str) -> str:
    if status == _UNAUTHORIZED:
        return "az login"
    if _NOT_ACTIVATED in message:
        return "the HSM has no security domain yet: it is uploaded before anything else is asked"
    return (
        "a role is missing, is not effective yet (a grant takes minutes), or a firewall is in"
        " between: check the grants of who is signed in here, and the firewall of what was asked;"
        " drengine explain DR-A010"
    )


def _unreachable(what: str, error: Exception, last: Flight | None) -> AzureError:
    if isinstance(error, ClientAuthenticationError):
        return NotAuthorized(f"{what}: {redacted(str(error))}", hint="az login")
    where = f"{host_of(last.url)}: " if last is not None else ""
    certificate = "CERTIFICATE_VERIFY_FAILED" in str(error)
    return AzureError(
        f"{what}: {where}{redacted(str(error))}",
        transient=isinstance(error, ClientError) and not certificate,
        hint="SSL_CERT_FILE must name the authorities to trust" if certificate else "",
    )


def _unknown(what: str, found: str) -> UnknownOutcome:
    return UnknownOutcome(
        f"{what}: {found}; the request was sent once, and whether it had its effect is not known",
        hint="nothing is sent again before the service was asked what is there: drengine resume",
    )


def _named(failure: Exception | None) -> str:
    return redacted(str(failure)) if failure else "no reason given"


def _without(secrets: Sequence[str], error: DrError) -> DrError:
    """Mask `secrets` in everything that the error says, where a service has quoted them."""
    error.message = without(secrets, error.message)
    error.hint = without(secrets, error.hint)
    error.args = (error.message,)
    if isinstance(error, AzureError):
        error.service_code = without(secrets, error.service_code)
    return error
