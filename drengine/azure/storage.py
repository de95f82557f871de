"""Reading backup containers, in plain requests. Nothing is ever written here.

azure-storage-blob is not used for it: loading it takes longer than a start of drengine, and
a run lists a folder before it asks its first gate. It signs tokens (`delegation`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree as ET

from azure.core import AsyncPipelineClient
from azure.core.pipeline.policies import (
    AsyncBearerTokenCredentialPolicy,
    HeadersPolicy,
    RequestIdPolicy,
    UserAgentPolicy,
)
from azure.core.rest import AsyncHttpResponse, HttpRequest

from drengine import __version__
from drengine.azure.delegation import (
    KEY_QUERY,
    Delegation,
    delegation_of,
    key_request,
    role_advice,
)
from drengine.azure.hsm_data import sas_text
from drengine.azure.pipeline import Pipeline
from drengine.azure.transport import MAX_PAGES
from drengine.errors import AzureError, NotAuthorized
from drengine.model.cloud import BlobItem, StorageTarget
from drengine.model.secret import Secret

_SCOPE: Final = "https://storage.azure.com/.default"
_VERSION: Final = "2021-12-02"
_FOLDERS: Final = "/"

Listing = list[ET.Element]


class BlobStorage:
    """`ports.Storage`: with the operator's own rights, or with the SAS of the target.

    A SAS that was made for the HSM need not allow listing: where it does not, the
    operator's own rights decide.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._made: dict[bool, AsyncPipelineClient[HttpRequest, AsyncHttpResponse]] = {}
        self._delegated: dict[tuple[str, str], Delegation] = {}
        self._keys: dict[str, tuple[ET.Element, int]] = {}
        self._delegating = asyncio.Lock()

    async def list_blobs(self, target: StorageTarget, prefix: str) -> Sequence[BlobItem]:
        """Return the blobs under `prefix`, ordered by name."""
        what = f"listing {target.container_url}/{prefix}"
        found = await self._read(target, what, prefix, delimiter="")
        blobs = (item for page in found for item in page.iterfind("Blobs/Blob"))
        return sorted((_blob(item) for item in blobs), key=lambda blob: blob.name)

    async def list_folders(self, target: StorageTarget, prefix: str) -> Sequence[str]:
        """Return the top-level folder names that start with `prefix`, ordered by name."""
        what = f"listing the folders of {target.container_url}"
        found = await self._read(target, what, prefix, delimiter=_FOLDERS)
        names = (item for page in found for item in page.iterfind("Blobs/BlobPrefix"))
        return sorted((item.findtext("Name") or "").rstrip("/") for item in names)

    async def delegated_sas(self, container_url: str, rights: str, now_ms: int) -> Secret:
        """Return a SAS made with the operator's own sign-in, valid for half a day at least.

        Source: Get User Delegation Key (POST ?restype=service&comp=userdelegationkey).

        Raises:
            NotAuthorized: the operator may not; the hint names the role.
        """
        async with self._delegating:  # what looks at the storage at once shares one
            known = self._delegated.get((container_url, rights))
            if known is None or not known.serves(now_ms):
                known = await self._delegate(container_url, rights, now_ms)
                self._delegated[container_url, rights] = known
        return known.sas

    async def _delegate(self, container_url: str, rights: str, now_ms: int) -> Delegation:
        what = f"making a SAS of {container_url} with your sign-in"
        account = urlsplit(container_url).netloc
        if account in self._keys:  # one key signs the tokens of every use
            answer, made_ms = self._keys[account]
            made = delegation_of(container_url, answer, rights, made_ms)
            if made.serves(now_ms):
                return made

        async def asked() -> Delegation:
            answer = await self._delegation_key(container_url, now_ms)
            made = delegation_of(container_url, answer, rights, now_ms)
            self._keys[account] = answer, now_ms
            return made

        try:
            return await self._pipeline.read(what, asked, by_post=True)
        except NotAuthorized as error:
            error.hint = role_advice(container_url)
            raise

    async def _delegation_key(self, container_url: str, now_ms: int) -> ET.Element:
        account = urlsplit(container_url)._replace(path="/", query=KEY_QUERY).geturl()
        request = HttpRequest("POST", account, content=key_request(now_ms))
        request.headers["content-type"] = "application/xml"
        response = await self._client(with_sas=False).send_request(request)
        return _parsed(response.content)

    async def _read(
        self, target: StorageTarget, what: str, prefix: str, *, delimiter: str
    ) -> Listing:
        asked = {"restype": "container", "comp": "list"}
        asked |= {"prefix": prefix} if prefix else {}
        asked |= {"delimiter": delimiter} if delimiter else {}
        if target.sas is not None:
            try:
                return await self._pipeline.read(
                    what, lambda: self._pages(target, asked, with_sas=True)
                )
            except NotAuthorized:
                pass  # the operator may list where the HSM's SAS may not
        return await self._pipeline.read(what, lambda: self._pages(target, asked, with_sas=False))

    async def _pages(
        self, target: StorageTarget, asked: dict[str, str], *, with_sas: bool
    ) -> Listing:
        pages: Listing = []
        client, rest = self._client(with_sas=with_sas), f"&{sas_text(target)}" if with_sas else ""
        marker, seen = "", {""}
        while marker or not pages:
            query = urlencode(asked | ({"marker": marker} if marker else {})) + rest
            response = await client.send_request(
                HttpRequest("GET", f"{target.container_url}?{query}")
            )
            pages.append(_listing(response.content))
            marker = pages[-1].findtext("NextMarker") or ""
            _check_marker(target.container_url, marker, seen)
        return pages

    def _client(self, *, with_sas: bool) -> AsyncPipelineClient[HttpRequest, AsyncHttpResponse]:
        if with_sas not in self._made:
            bearer = AsyncBearerTokenCredentialPolicy(self._pipeline.credential, _SCOPE)
            self._made[with_sas] = AsyncPipelineClient(
                "",
                transport=self._pipeline.transport,
                policies=[
                    RequestIdPolicy(),
                    HeadersPolicy({"x-ms-version": _VERSION, "accept": "application/xml"}),
                    UserAgentPolicy(f"drengine/{__version__}"),
                    *([] if with_sas else [bearer]),
                ],
            )
        return self._made[with_sas]


def _check_marker(place: str, marker: str, seen: set[str]) -> None:
    """Refuse a page that was read, and more pages than any folder has."""
    if not marker:
        return
    if marker in seen:
        raise AzureError(
            f"listing {place}: its pages lead back to one that was read; "
            "what it holds is not known",
            transient=True,
        )
    if len(seen) >= MAX_PAGES:
        raise AzureError(
            f"listing {place}: it has more than {MAX_PAGES} pages; what it holds is not known",
            hint="name a container of its own for the backups, or the folder itself",
        )
    seen.add(marker)


def _parsed(body: bytes) -> ET.Element:
    """Return the document that a body holds.

    Raises:
        TypeError: it is none.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TypeError("the body is no UTF-8, in which the service writes") from error
    if "<!DOCTYPE" in text or "\0" in text:
        raise TypeError("an answer declares no document type, and has no zeros (of UTF-16)")
    try:
        return ET.fromstring(text)  # noqa: S314 - entities need the document type
    except ET.ParseError as error:
        raise TypeError("the body is no XML") from error


def _listing(body: bytes) -> ET.Element:
    """Return the listing that a body holds; raises TypeError where it is none."""
    found = _parsed(body)
    if found.find("Blobs") is None:
        raise TypeError("the body is no listing")
    return found


def _blob(item: ET.Element) -> BlobItem:
    text = dict(_texts(item))
    size = text.get("Content-Length", "")
    return BlobItem(
        name=item.findtext("Name") or "",
        size=int(size) if size.isdecimal() else 0,
        etag=text.get("Etag", "").strip('"'),
    )


def _texts(item: ET.Element) -> Iterator[tuple[str, str]]:
    for found in item.iterfind("Properties/*"):
        yield found.tag, found.text or ""
