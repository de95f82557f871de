"""The lab's directory service: discovery documents, tokens, and reading them again.

Tokens are unsigned (`alg: none`): every client treats a token as opaque, and nothing
outside this lab accepts one. A token is good here if its issuer, tenant, audience and
times fit; `exp` is wall-clock time, because clients renew by their own clock.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from drengine.lab.wire import (
    Auth,
    Call,
    LabFault,
    Principal,
    Request,
    Response,
    Route,
    json_response,
)

if TYPE_CHECKING:
    from drengine.lab.store import Tx

LOGIN_HOST: Final = "login.microsoftonline.com"
APP_KIND: Final = "entra.app"
AUDIENCES: Final[dict[Auth, frozenset[str]]] = {
    "none": frozenset(),
    "arm": frozenset({"https://management.azure.com", "https://management.core.windows.net"}),
    "hsm": frozenset({"https://managedhsm.azure.net"}),
    "vault": frozenset({"https://vault.azure.net"}),
    "storage": frozenset({"https://storage.azure.com"}),
}


def mint_token(
    *,
    tenant: str,
    object_id: str,
    app_id: str,
    audience: str,
    kind: str,
    lifetime_seconds: int,
) -> str:
    """Return an unsigned token."""
    now = int(time.time())
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{tenant}/",
        "iat": now,
        "nbf": now - 5,
        "exp": now + lifetime_seconds,
        "appid": app_id,
        "idtyp": "app",
        "oid": object_id,
        "sub": object_id,
        "tid": tenant,
        "ver": "1.0",
        "uti": uuid.uuid4().hex[:22],
        "lab_kind": kind,
    }
    return f"{_segment({'typ': 'JWT', 'alg': 'none'})}.{_segment(claims)}."


def read_bearer(authorization: str, tenant: str) -> Principal | None:
    """Return whom an `Authorization` header speaks for, or None where it does not hold."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return None
    claims = _claims(token)
    now = time.time()
    if claims is None or claims.get("tid") != tenant:
        return None
    begins, ends = claims.get("nbf", 0), claims.get("exp", 0)
    if not all(isinstance(one, int | float) for one in (begins, ends)) or not begins <= now < ends:
        return None
    return Principal(
        object_id=str(claims.get("oid", "")),
        app_id=str(claims.get("appid", "")),
        tenant=tenant,
        audience=str(claims.get("aud", "")),
        kind=str(claims.get("lab_kind", "")),
    )


def is_for(principal: Principal, auth: Auth) -> bool:
    """Return whether the token was issued for the service that asks."""
    return principal.audience.rstrip("/") in AUDIENCES[auth]


def register_app(tx: Tx, *, app_id: str, object_id: str, secret: str) -> None:
    """Make a service principal known, by the hash of its secret."""
    tx.put(APP_KIND, app_id.lower(), {"object_id": object_id, "secret": _digest(secret)})


def _segment(document: object) -> str:
    raw = json.dumps(document, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _claims(token: str) -> dict[str, Any] | None:
    parts = token.strip().split(".")
    if len(parts) != 3 or parts[2]:  # noqa: PLR2004 - a token has three parts, the last is empty
        return None
    try:
        header, claims = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            for part in parts[:2]
        )
    except (ValueError, RecursionError):
        return None
    fits = isinstance(claims, dict) and isinstance(header, dict) and header.get("alg") == "none"
    return claims if fits else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _entra_fault(fault: LabFault, request: Request) -> Response:
    trace = str(uuid.uuid4())
    body = {
        "error": fault.code,
        "error_description": f"{fault.message} Trace ID: {trace}",
        "error_codes": [int(number) for number in _aadsts(fault.message)],
        "timestamp": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        "trace_id": trace,
        "correlation_id": request.headers.get("client-request-id", trace),
    }
    return json_response(fault.status, body, fault.headers)


def _aadsts(message: str) -> list[str]:
    head = message.split(":", 1)[0]
    return [head.removeprefix("AADSTS")] if head.startswith("AADSTS") else []


def _discovery(call: Call) -> Response:
    endpoint = f"https://{LOGIN_HOST}/{call.lab.tenant}/v2.0/.well-known/openid-configuration"
    aliases = [LOGIN_HOST, "login.windows.net", "login.microsoft.com", "sts.windows.net"]
    metadata = {
        "preferred_network": LOGIN_HOST,
        "preferred_cache": "login.windows.net",
        "aliases": aliases,
    }
    return json_response(
        200,
        {
            "tenant_discovery_endpoint": endpoint,
            "api-version": "1.1",
            "metadata": [metadata],
        },
    )


def _openid_configuration(call: Call) -> Response:
    tenant = call.lab.tenant
    base = f"https://{LOGIN_HOST}/{tenant}"
    return json_response(
        200,
        {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": f"https://{LOGIN_HOST}/{tenant}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "end_session_endpoint": f"{base}/oauth2/v2.0/logout",
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
            "cloud_graph_host_name": "graph.windows.net",
            "msgraph_host": "graph.microsoft.com",
        },
    )


def _token(call: Call) -> Response:
    form = dict(parse_qsl(call.request.body.decode("utf-8", "replace")))
    if call.match["tenant"].lower() != call.lab.tenant:
        raise LabFault(
            400, "invalid_request", f"AADSTS90002: Tenant '{call.match['tenant']}' not found."
        )
    if form.get("grant_type") != "client_credentials":
        raise LabFault(
            400, "unsupported_grant_type", "AADSTS70003: The lab knows client_credentials only."
        )
    app_id = form.get("client_id", "").lower()
    app = call.tx.get(APP_KIND, app_id)
    if app is None:
        raise LabFault(
            400,
            "unauthorized_client",
            f"AADSTS700016: Application with identifier '{app_id}' was not found.",
        )
    if not hmac.compare_digest(app["secret"], _digest(form.get("client_secret", ""))):
        raise LabFault(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
    audience = _audience(form.get("scope", ""))
    lifetime = call.lab.settings.token_lifetime
    token = mint_token(
        tenant=call.lab.tenant,
        object_id=app["object_id"],
        app_id=app_id,
        audience=audience,
        kind="operator",
        lifetime_seconds=lifetime,
    )
    call.effect, call.target = "entra.token", audience
    answer = {
        "token_type": "Bearer",
        "expires_in": lifetime,
        "ext_expires_in": lifetime,
        "access_token": token,
    }
    return json_response(200, answer, {"cache-control": "no-store, no-cache"})


def _audience(scope: str) -> str:
    words = [word for word in scope.split() if word.endswith("/.default")]
    if not words:
        raise LabFault(400, "invalid_scope", "AADSTS70011: The provided scope is not valid.")
    # MSAL asks for "https://management.core.windows.net//.default" and expects the slash back
    return words[0].removesuffix("/.default")


def _empty_graph(_call: Call) -> Response:
    return json_response(200, {"value": []})


def _me(call: Call) -> Response:
    """Answer who asks; the real service does so for people only."""
    who = call.request.principal
    if who is None:
        raise LabFault(401, "InvalidAuthenticationToken", "Access token is empty.")
    return json_response(200, {"id": who.object_id, "displayName": "drengine lab operator"})


def _service_principals(call: Call) -> Response:
    who = call.request.principal
    if who is None:
        raise LabFault(401, "InvalidAuthenticationToken", "Access token is empty.")
    found = {"id": who.object_id, "appId": who.app_id, "displayName": "drengine lab operator"}
    return json_response(200, {"value": [found]})


_TENANT: Final = "/(?P<tenant>[^/]+)"
ROUTES: Final[tuple[Route, ...]] = (
    Route(LOGIN_HOST, "GET", "/common/discovery/instance", _discovery, "none", _entra_fault),
    Route(
        LOGIN_HOST,
        "GET",
        _TENANT + "(/v2\\.0)?/\\.well-known/openid-configuration",
        _openid_configuration,
        "none",
        _entra_fault,
    ),
    Route(LOGIN_HOST, "POST", _TENANT + "/oauth2/v2\\.0/token", _token, "none", _entra_fault),
    Route("graph\\.microsoft\\.com", "GET", "/[^/]+/me", _me, "none", _entra_fault),
    Route(
        "graph\\.microsoft\\.com",
        "GET",
        "/[^/]+/servicePrincipals",
        _service_principals,
        "none",
        _entra_fault,
    ),
    Route("graph\\.microsoft\\.com", "GET", "/.*", _empty_graph, "none", _entra_fault),
    Route("graph\\.microsoft\\.com", "POST", "/.*", _empty_graph, "none", _entra_fault),
)
