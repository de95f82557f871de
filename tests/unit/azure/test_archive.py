"""A large file is kept whole, and what does not read back as it was written is not locked away."""

from __future__ import annotations

from typing import Any

import pytest

from drengine.azure.archive import BlobArchive, Retention
from drengine.azure.transport import MAX_BODY_BYTES
from drengine.errors import GuardError

DATED = {"last-modified": "Tue, 01 Dec 2026 00:00:00 GMT"}
TEN_YEARS = Retention(2_110_000_000_000, locked=True, legal_hold=False)
# aiohttp warns of bodies of more than a megabyte; the SDK hands over bytes in any case
LARGE = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
POLICY = ("x-ms-immutability-policy-until-date", "x-ms-immutability-policy-mode")


class Blobs:
    """A container as far as an archive asks it: put, get in ranges, look, protect."""

    def __init__(self, new_reply: Any) -> None:
        self.reply = new_reply
        self.kept: dict[str, bytes] = {}
        self.policies: dict[str, dict[str, str]] = {}
        self.damage = b""
        self.change_when_protected = False
        self.etags: dict[str, int] = {}

    def __call__(self, arrival: Any) -> Any:
        blob, _, query = arrival.target.partition("?")
        if arrival.method == "PUT" and "comp=immutabilityPolicies" in query:
            self.policies[blob] = {name: arrival.headers[name] for name in POLICY}
            if self.change_when_protected:
                self._put(blob, b"changed")
            return self.reply(200)
        if arrival.method == "PUT":
            if blob in self.kept:
                return self.reply(409, {"x-ms-error-code": "BlobAlreadyExists"})
            self._put(blob, self.damage or arrival.body)
            return self.reply(201, self._head(blob))
        if arrival.method == "HEAD":
            return self.reply(200, self._head(blob))
        return self._part(blob, arrival.headers.get("x-ms-range") or arrival.headers["range"])

    def _put(self, blob: str, data: bytes) -> None:
        self.kept[blob] = data
        self.etags[blob] = self.etags.get(blob, 0) + 1

    def _head(self, blob: str) -> dict[str, str]:
        return {**DATED, "etag": f'"{self.etags[blob]}"', **self.policies.get(blob, {})}

    def _part(self, blob: str, asked: str) -> Any:
        first, last = (int(end) for end in asked.removeprefix("bytes=").split("-"))
        data, part = self.kept[blob], self.kept[blob][first : last + 1]
        placed = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        return self.reply(206, {**self._head(blob), "content-range": placed}, body=part)


@pytest.fixture
def blobs(azure, new_reply) -> Blobs:
    azure.script = Blobs(new_reply)
    return azure.script


@pytest.fixture
async def archive(new_session):
    session = new_session(total_seconds=50)
    yield BlobArchive(session.pipeline(), "https://a.blob.core.windows.net/c")
    await session.close()


@LARGE
async def test_a_file_that_is_larger_than_one_answer_may_be_is_kept(azure, blobs, archive):
    data = b"0123456789abcdef" * (MAX_BODY_BYTES // 16) + b"and more"
    kept = await archive.keep({"journal": data}, "b/", TEN_YEARS)
    assert (kept.blobs, kept.size_bytes) == (1, len(data))
    assert blobs.kept == {"/c/b/journal": data}
    assert len(blobs.policies) == 1
    order = [(a.method, "immutab" in a.target) for a in azure.authorised()]
    assert order.index(("GET", False)) < order.index(("PUT", True)), "read back, then locked"


@LARGE
async def test_it_is_written_in_one_request_however_large(azure, blobs, archive):
    data = bytes(65 * 1024 * 1024)
    await archive.keep({"journal": data}, "b/", TEN_YEARS)
    assert blobs.kept == {"/c/b/journal": data}
    assert [a.target.partition("comp=")[2] for a in azure.changing()] == [
        "",
        "immutabilityPolicies",
    ]


async def test_what_does_not_read_back_is_not_locked_away(blobs, archive):
    blobs.damage = b"something else"
    with pytest.raises(GuardError, match="it was not protected"):
        await archive.keep({"a": b"what was sealed"}, "b/", TEN_YEARS)
    assert blobs.policies == {}


async def test_another_blob_of_that_name_is_neither_touched_nor_locked(blobs, archive):
    await archive.keep({"a": b"one"}, "b/", TEN_YEARS)
    blobs.policies.clear()
    with pytest.raises(GuardError, match="it was not touched"):
        await archive.keep({"a": b"two"}, "b/", TEN_YEARS)
    assert (blobs.kept, blobs.policies) == ({"/c/b/a": b"one"}, {})


async def test_what_changed_while_it_was_protected_is_not_said_to_be_kept(blobs, archive):
    blobs.change_when_protected = True
    with pytest.raises(GuardError, match="changed while it was being protected"):
        await archive.keep({"a": b"one"}, "b/", TEN_YEARS)
    assert archive.kept == 0
