"""Who may do what in blob storage: Shared Key, SAS and bearer with a data role.

All three end in the same currency, a set of SAS letters, so that a handler asks for
letters and does not care how they were earned. The framework has already checked a
bearer's form and audience; whether its principal holds a role is checked here.

Rules:
- a lacking right is 403 AuthorizationPermissionMismatch, a bad signature 403
  AuthenticationFailed, no credentials at all 401 NoAuthenticationInformation;
- a user-delegation token never allows more than the role of the one who made its key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from drengine.lab.blob import sas
from drengine.lab.wire import LabFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from drengine.lab.store import Tx
    from drengine.lab.wire import Request

ALL_RIGHTS: Final = frozenset("racwdxyltmeopi")
_ROLE_RIGHTS: Final = {
    "Storage Blob Data Owner": ALL_RIGHTS,
    "Storage Blob Data Contributor": frozenset("racwdxyltmei"),
    "Storage Blob Data Reader": frozenset("rl"),
}
_SIGNED_HEADERS: Final = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


def account_document(tx: Tx, account: str) -> dict[str, Any]:
    """Return an account's document.

    Raises:
        LabFault: 404 ResourceNotFound; in Azure the name would not even resolve.
    """
    doc = tx.get("storage.account", account.lower())
    if doc is None:
        raise LabFault(404, "ResourceNotFound", "The specified resource does not exist.")
    return doc


def permission_mismatch() -> LabFault:
    """Return the 403 for a right that the caller lacks."""
    return LabFault(
        403,
        "AuthorizationPermissionMismatch",
        "This request is not authorized to perform this operation using this permission.",
    )


def role_rights(tx: Tx, account: str, principal_id: str) -> frozenset[str]:
    """Return the letters that a principal's data roles on an account amount to."""
    doc = tx.get("storage.role", f"{account.lower()}/{principal_id.lower()}")
    rights: frozenset[str] = frozenset()
    for role in doc["roles"] if doc else ():
        rights |= _ROLE_RIGHTS[role]
    return rights


def token_rights(
    tx: Tx, account: str, container: str | None, blob: str | None, token: str
) -> frozenset[str]:
    """Return the letters that a SAS grants on a container, blob or the account.

    Raises:
        LabFault: 403, with Azure's code for what is wrong with it.
    """
    parsed = sas.parse_token(token)
    doc = account_document(tx, account)
    sas.check_window(parsed, tx.now_ms)
    if parsed.is_account:
        return _account_token_rights(parsed, account, doc, container, blob)
    if container is None:
        raise sas.failed_authentication("The token does not cover the account.")
    resource = _signed_resource(parsed, container, blob)
    if parsed.is_delegated:
        return _delegated_rights(tx, parsed, account, doc, resource)
    text = sas.service_text(parsed, account, resource)
    _require_signature(parsed, [key["value"] for key in doc["keys"]], (text,))
    return parsed.permissions


def _account_token_rights(
    token: sas.SasToken, account: str, doc: dict[str, Any], container: str | None, blob: str | None
) -> frozenset[str]:
    text = sas.account_text(token, account)
    _require_signature(token, [key["value"] for key in doc["keys"]], (text,))
    if "b" not in token.get("ss"):
        raise LabFault(
            403,
            "AuthorizationServiceMismatch",
            "This request is not authorized to perform this operation using this service.",
        )
    kind = "o" if blob is not None else "c" if container is not None else "s"
    # Listing a container's blobs is a container operation, an HSM's use of it touches both.
    if kind not in token.get("srt"):
        raise LabFault(
            403,
            "AuthorizationResourceTypeMismatch",
            "This request is not authorized to perform this operation using this resource type.",
        )
    return token.permissions


def _delegated_rights(
    tx: Tx, token: sas.SasToken, account: str, doc: dict[str, Any], resource: str
) -> frozenset[str]:
    key = sas.delegation_key(doc["delegation_secret"], token.fields)
    _require_signature(token, [key], sas.delegation_texts(token, account, resource))
    return token.permissions & role_rights(tx, account, token.get("skoid"))


def _signed_resource(token: sas.SasToken, container: str, blob: str | None) -> str:
    kind = token.get("sr")
    if kind == "c":
        return container
    if kind == "b" and blob is not None:
        return f"{container}/{blob}"
    raise sas.failed_authentication("The token's resource type does not fit the request.")


def _require_signature(token: sas.SasToken, keys: list[str], texts: tuple[str, ...]) -> None:
    if not any(sas.is_signed_by(token, key, text) for key in keys for text in texts):
        raise sas.failed_authentication("Signature did not match.")


def request_rights(
    tx: Tx, request: Request, account: str, container: str | None, blob: str | None
) -> frozenset[str]:
    """Return what the sender of a request may do to a resource.

    Raises:
        LabFault: 401 without credentials, 403 with bad ones, 404 without an account.
    """
    doc = account_document(tx, account)
    scheme = request.headers.get("authorization", "").split(" ", 1)[0].lower()
    if scheme == "sharedkey":
        _check_shared_key(request, account, doc)
        return ALL_RIGHTS
    if "sig" in request.query:
        query = request.raw_target.partition("?")[2]
        return token_rights(tx, account, container, blob, query)
    if request.principal is not None:
        return role_rights(tx, account, request.principal.object_id)
    raise LabFault(
        401,
        "NoAuthenticationInformation",
        "Server failed to authenticate the request. Please refer to the information in the "
        "www-authenticate header.",
    )


def _check_shared_key(request: Request, account: str, doc: dict[str, Any]) -> None:
    claimed, _, signature = request.headers["authorization"].partition(" ")[2].partition(":")
    token = sas.SasToken({"sig": signature})
    texts = tuple(_shared_key_text(request, account, order) for order in (_by_letters, str))
    if claimed.lower() != account.lower():
        raise sas.failed_authentication("The account name does not fit the host.")
    _require_signature(token, [key["value"] for key in doc["keys"]], texts)


def _by_letters(name: str) -> str:
    # The service sorts header names as words, where a hyphen weighs nothing.
    return name.replace("-", "")


def _shared_key_text(request: Request, account: str, order: Callable[[str], str]) -> str:
    headers = request.headers
    lines = [request.method]
    for name in _SIGNED_HEADERS:
        value = headers.get(name, "")
        lines.append("" if name == "content-length" and value == "0" else value)
    names = sorted((name for name in headers if name.startswith("x-ms-")), key=order)
    lines += [f"{name}:{headers[name].strip()}" for name in names]
    path = request.raw_target.partition("?")[0]
    lines.append(f"/{account}{path}")
    lines += [f"{name}:{value}" for name, value in _decoded_query(request.raw_target)]
    return "\n".join(lines)


def _decoded_query(target: str) -> list[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for pair in filter(None, target.partition("?")[2].split("&")):
        name, _, value = pair.partition("=")
        found.setdefault(unquote(name).lower(), []).append(unquote(value))
    return [(name, ",".join(sorted(found[name]))) for name in sorted(found)]
