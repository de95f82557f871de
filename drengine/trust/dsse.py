"""DSSE envelopes: bytes, what kind of bytes they are, and signatures over both.

Pure. Format: https://github.com/secure-systems-lab/dsse, protocol v1. What is signed is
the pre-authentication encoding, so that a signature over one kind of payload is none over
another.

Rules: an envelope is read strictly (no key twice, no unknown key, canonical base64, at
most `MAX_SIGNATURES`), because two readers that disagree are a way in.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final

from drengine.model.canonical import Json, parse_strict

IN_TOTO: Final = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
MAX_SIGNATURES: Final = 20
MAX_ENVELOPE_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature; `keyid` only helps to find the key, it proves nothing."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed payload."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    @property
    def covered(self) -> bytes:
        """The bytes that are signed."""
        return pae(self.payload_type, self.payload)

    def to_json(self) -> dict[str, Json]:
        """Return the envelope as DSSE writes it."""
        return {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": [
                {"keyid": each.keyid, "sig": base64.b64encode(each.sig).decode()}
                for each in self.signatures
            ],
        }


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def read_envelope(doc: object, payload_type: str = IN_TOTO) -> Envelope:
    """Return the envelope that a parsed document is.

    Raises:
        ValueError: it is not one, or holds another kind of payload.
    """
    if not isinstance(doc, dict) or doc.keys() != {"payloadType", "payload", "signatures"}:
        raise ValueError("is not a DSSE envelope with exactly its three keys")
    if doc["payloadType"] != payload_type:
        raise ValueError(f"holds {str(doc['payloadType'])[:60]!r}, expected {payload_type!r}")
    listed = doc["signatures"]
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_SIGNATURES:
        raise ValueError(f"has no list of 1 to {MAX_SIGNATURES} signatures")
    signatures = tuple(_signature(each) for each in listed)
    return Envelope(payload_type, _decoded(doc["payload"], "payload"), signatures)


def _signature(doc: object) -> Signature:
    if not isinstance(doc, dict) or doc.keys() != {"keyid", "sig"}:
        raise ValueError("a signature has exactly keyid and sig")
    if not isinstance(doc["keyid"], str):
        raise ValueError("a keyid is not a text")
    return Signature(doc["keyid"], _decoded(doc["sig"], "signature"))


def _decoded(text: object, what: str) -> bytes:
    if not isinstance(text, str):
        raise ValueError(f"its {what} is not a text")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"its {what} is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise ValueError(f"its {what} is not base64 in its one canonical form")
    return data


def parse_json(data: bytes) -> Any:
    """Return the JSON value of `data`; no key twice, no float, no NaN, UTF-8 without BOM.

    Raises:
        ValueError: says what is wrong.
    """
    if len(data) > MAX_ENVELOPE_BYTES:
        raise ValueError(f"is larger than {MAX_ENVELOPE_BYTES} bytes")
    return parse_strict(data.decode("utf-8"))
