"""Shared access signatures: what is signed, how, and what a token allows.

Covers service SAS (container and blob), account SAS and user-delegation SAS. The
text that is signed grew with the service version, so every layout here is a row of
field names chosen by `sv`. This module does NOT decide whether the signing key is
known or whether a principal still has its role: `access` does.

Rules:
- a token is read from the query as it was sent; unknown fields stay unsigned, as in Azure;
- times are compared with the lab's clock, given as `now_ms`;
- signatures are compared in constant time and never appear in a message.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote

from drengine.lab.wire import LabFault

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = "2021-12-02"
"""The `sv` of tokens that the lab itself makes."""

_OVERRIDES: Final = ("rscc", "rscd", "rsce", "rscl", "rsct")
_TIME_FORMATS: Final = (
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%dT%H:%M:%S.%fZ",
    "%Y-%m-%dT%H:%MZ",
    "%Y-%m-%d",
)
_AUTHENTICATION_FAILED: Final = (
    "Server failed to authenticate the request. Make sure the value of Authorization header "
    "is formed correctly including the signature."
)


@dataclass(frozen=True, slots=True)
class SasToken:
    """The fields of a token, by their short names."""

    fields: Mapping[str, str]

    def get(self, name: str) -> str:
        """Return a field, or the empty string that Azure signs for an absent one."""
        return self.fields.get(name, "")

    @property
    def is_account(self) -> bool:
        """Whether this is an account SAS (it names services and resource types)."""
        return "ss" in self.fields and "srt" in self.fields

    @property
    def is_delegated(self) -> bool:
        """Whether a user-delegation key signed it."""
        return "skoid" in self.fields

    @property
    def permissions(self) -> frozenset[str]:
        """The letters of `sp`."""
        return frozenset(self.get("sp"))


def parse_token(token: str) -> SasToken:
    """Read a token as it stands in a request body or connection setting (`?` allowed)."""
    pairs = parse_qsl(token.removeprefix("?"), keep_blank_values=True)
    return SasToken({name.lower(): value for name, value in pairs})


def failed_authentication(detail: str) -> LabFault:
    """Return the 403 that Azure gives for anything wrong with a signature."""
    return LabFault(403, "AuthenticationFailed", f"{_AUTHENTICATION_FAILED}\n{detail}")


def parse_time(text: str) -> int:
    """Return a SAS time as epoch milliseconds.

    Raises:
        LabFault: 403, when the text has none of the forms that Azure accepts.
    """
    for form in _TIME_FORMATS:
        try:
            moment = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return int(moment.timestamp() * 1000)
    raise failed_authentication("A time of the signature is not well formed.")


def format_time(at_ms: int) -> str:
    """Return epoch milliseconds as the second-precise UTC text used in tokens."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def sign(key: str, text: str) -> str:
    """Return the base64 HMAC-SHA256 of a text under a base64 key."""
    digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def is_signed_by(token: SasToken, key: str, text: str) -> bool:
    """Whether the token's signature over `text` was made with `key`."""
    return hmac.compare_digest(sign(key, text).encode(), token.get("sig").encode())


def check_window(token: SasToken, now_ms: int) -> None:
    """Check start, expiry, key times and protocol against the lab's clock.

    Raises:
        LabFault: 403 AuthenticationFailed.
    """
    if not token.get("se") and not token.get("si"):
        raise failed_authentication("se is mandatory. Cannot be empty")
    late = any(token.get(f) and parse_time(token.get(f)) <= now_ms for f in ("se", "ske"))
    early = any(token.get(f) and parse_time(token.get(f)) > now_ms for f in ("st", "skt"))
    if late or early:
        raise failed_authentication(
            "Signature not valid in the specified time frame: "
            f"Start [{token.get('st')}] - Expiry [{token.get('se')}] - "
            f"Current [{format_time(now_ms)}]"
        )
    if token.get("spr") not in ("", "https", "https,http", "http,https"):
        raise failed_authentication("spr is not well formed.")


def service_text(token: SasToken, account: str, resource: str) -> str:
    """Return what a service SAS signs for a canonical resource (`container[/blob]`)."""
    version = token.get("sv")
    names = ["si", "sip", "spr", "sv"]
    if version >= "2018-11-09":
        names += ["sr", "snapshot"]
    if version >= "2020-12-06":
        names.append("ses")
    return _resource_text(token, account, resource, names)


def delegation_texts(token: SasToken, account: str, resource: str) -> tuple[str, ...]:
    """Return what a user-delegation SAS may sign for a canonical resource.

    Two layouts are in use for recent versions: with and without the two fields for
    required request headers and query parameters.
    """
    version = token.get("sv")
    names = ["skoid", "sktid", "skt", "ske", "sks", "skv"]
    if version >= "2020-02-10":
        names += ["saoid", "suoid", "scid"]
    if version >= "2025-07-05":
        names += ["skdutid", "sduoid"]
    names += ["sip", "spr", "sv", "sr", "snapshot"]
    if version >= "2020-12-06":
        names.append("ses")
    plain = _resource_text(token, account, resource, names)
    if version < "2025-07-05":
        return (plain,)
    return (plain, _resource_text(token, account, resource, [*names, "srh", "srq"]))


def _resource_text(token: SasToken, account: str, resource: str, names: list[str]) -> str:
    head = [token.get("sp"), token.get("st"), token.get("se"), f"/blob/{account}/{resource}"]
    return "\n".join(head + [token.get(name) for name in (*names, *_OVERRIDES)])


def account_text(token: SasToken, account: str) -> str:
    """Return what an account SAS signs; unlike the others it ends in a line feed."""
    names = ["sp", "ss", "srt", "st", "se", "sip", "spr", "sv"]
    if token.get("sv") >= "2020-12-06":
        names.append("ses")
    return "\n".join([account, *(token.get(name) for name in names), ""])


def delegation_key(secret: str, fields: Mapping[str, str]) -> str:
    """Return the user-delegation key for its public fields.

    It is derived from a secret of the account instead of being stored: a key that was
    handed out is known again whenever a token names the same fields.
    """
    names = ("skoid", "sktid", "skt", "ske", "sks", "skv")
    return sign(secret, "\n".join(fields.get(name, "") for name in names))


def make_service_sas(
    key: str, account: str, container: str, *, permissions: str, start_ms: int, expiry_ms: int
) -> str:
    """Return a container SAS, without a leading question mark."""
    fields = {
        "sv": VERSION,
        "sr": "c",
        "sp": permissions,
        "st": format_time(start_ms),
        "se": format_time(expiry_ms),
        "spr": "https",
    }
    text = service_text(SasToken(fields), account, container)
    fields["sig"] = sign(key, text)
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
