"""What one storage request is aimed at, and what its sender may do there.

Also the small pieces that every operation needs: entity tags, HTTP dates, the
conditional headers and the lease that a write must show. Does NOT touch content.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.blob import access, content
from drengine.lab.wire import LabFault, whole_number

if TYPE_CHECKING:
    from drengine.lab.store import Tx
    from drengine.lab.wire import Call, Request

CONTAINERS: Final = "storage.container"


@dataclass(frozen=True, slots=True)
class Target:
    """An authenticated storage request, taken apart."""

    call: Call
    account: str
    container: str
    """Empty for requests to the account itself."""
    name: str
    """The blob's name; empty for requests to a container."""
    rights: frozenset[str]

    @property
    def tx(self) -> Tx:
        """The transaction of the call."""
        return self.call.tx

    @property
    def request(self) -> Request:
        """The request of the call."""
        return self.call.request

    @property
    def key(self) -> str:
        """The document key of the blob."""
        return content.blob_key(self.account, self.container, self.name)

    @property
    def container_key(self) -> str:
        """The document key of the container."""
        return content.container_key(self.account, self.container)

    def header(self, name: str) -> str:
        """Return a request header, empty when it is absent."""
        return self.request.headers.get(name, "")

    def number(self, name: str, most: int | None = None) -> int | None:
        """Return the number in a request header, None when it is absent.

        Raises:
            LabFault: 400 InvalidHeaderValue.
        """
        text = self.header(name)
        found = whole_number(text)
        if text and (found is None or (most is not None and found > most)):
            raise bad_header()
        return found

    def require(self, any_of: str) -> None:
        """Check that the sender has at least one of some letters.

        Raises:
            LabFault: 403 AuthorizationPermissionMismatch.
        """
        if not self.rights & set(any_of):
            raise access.permission_mismatch()

    def changed(self, effect: str) -> None:
        """Name the effect of this call for the call log."""
        self.call.effect = effect
        self.call.target = "/".join(filter(None, (self.account, self.container, self.name)))

    def find_container(self) -> dict[str, Any]:
        """Return the container's document.

        Raises:
            LabFault: 404 ContainerNotFound.
        """
        doc = self.tx.get(CONTAINERS, self.container_key)
        if doc is None:
            raise content.container_missing()
        return doc

    def find_blob(self) -> content.Blob | None:
        """Return the blob's document, None when it does not exist; the container must."""
        self.find_container()
        return content.find_blob(self.tx, self.key)

    def existing_blob(self) -> content.Blob:
        """Return the blob's document.

        Raises:
            LabFault: 404 ContainerNotFound or BlobNotFound.
        """
        doc = self.find_blob()
        if doc is None:
            raise content.blob_missing()
        return doc


def open_target(call: Call) -> Target:
    """Take a request apart and authenticate it.

    Raises:
        LabFault: 401, 403 or 404, as `access.request_rights` says.
    """
    account = call.request.host.split(".", 1)[0]
    container, _, name = call.request.path.lstrip("/").partition("/")
    rights = access.request_rights(call.tx, call.request, account, container or None, name or None)
    return Target(call, account, container, name, rights)


def bad_header() -> LabFault:
    """Return the refusal of a header that cannot be read."""
    return LabFault(
        400,
        "InvalidHeaderValue",
        "The value for one of the HTTP headers is not in the correct format.",
    )


def http_date(at_ms: int) -> str:
    """Return epoch milliseconds as an HTTP date."""
    return format_datetime(datetime.fromtimestamp(at_ms // 1000, UTC), usegmt=True)


def parse_http_date(text: str) -> int:
    """Return an HTTP date as epoch milliseconds.

    Raises:
        LabFault: 400 InvalidHeaderValue.
    """
    try:
        return int(parsedate_to_datetime(text).timestamp() * 1000)
    except ValueError:
        raise bad_header() from None


def version_headers(doc: dict[str, Any]) -> dict[str, str]:
    """Return ETag and Last-Modified of a blob or container."""
    return {"etag": doc["etag"], "last-modified": http_date(doc["modified_ms"])}


def metadata_of(request: Request) -> dict[str, str]:
    """Return the `x-ms-meta-` headers by bare name."""
    prefix = "x-ms-meta-"
    return {
        name[len(prefix) :]: value
        for name, value in request.headers.items()
        if name.startswith(prefix)
    }


def check_write_conditions(target: Target, doc: dict[str, Any] | None) -> None:
    """Check the conditional headers of a change.

    Raises:
        LabFault: 409 BlobAlreadyExists for `If-None-Match: *`, else 412 ConditionNotMet.
    """
    none_match = target.header("if-none-match")
    if none_match == "*" and doc is not None:
        raise LabFault(409, "BlobAlreadyExists", "The specified blob already exists.")
    if not _conditions_met(target, doc):
        raise LabFault(
            412,
            "ConditionNotMet",
            "The condition specified using HTTP conditional header(s) is not met.",
        )


def check_read_conditions(target: Target, doc: dict[str, Any]) -> None:
    """Check the conditional headers of a read.

    Raises:
        LabFault: 304 for an unchanged blob, else 412 ConditionNotMet.
    """
    if _conditions_met(target, doc):
        return
    unchanged = bool(target.header("if-none-match") or target.header("if-modified-since"))
    raise LabFault(
        304 if unchanged else 412,
        "ConditionNotMet",
        "The condition specified using HTTP conditional header(s) is not met.",
    )


def _conditions_met(target: Target, doc: dict[str, Any] | None) -> bool:
    etag = doc["etag"] if doc else ""
    match, none_match = target.header("if-match"), target.header("if-none-match")
    if match and (doc is None or match not in ("*", etag)):
        return False
    if none_match and doc is not None and none_match in ("*", etag):
        return False
    modified = doc["modified_ms"] // 1000 * 1000 if doc else 0
    since, until = target.header("if-modified-since"), target.header("if-unmodified-since")
    if since and doc is not None and modified <= parse_http_date(since):
        return False
    return not (until and doc is not None and modified > parse_http_date(until))
