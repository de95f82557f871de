"""The restore blob: what a finished one says of itself, without any key.

The engine asks this before it delivers a blob: is it one, how large is it, and for
which exchange certificate was it made? Needs no cryptographic library.

Not here: whether the blob opens. Only the HSM that holds the exchange key can tell.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drengine.ceremony import strict
from drengine.ceremony.compact import CompactJwe, KeyAgreement, parse_jwe
from drengine.ceremony.kdf import KDF_NAME
from drengine.ceremony.parts import SealedPart, parse_parts
from drengine.errors import CeremonyError, InputFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BLOB_BYTES: Final = 1024 * 1024
WRAPPED_KEY_ID: Final = "not used"


@dataclass(frozen=True, slots=True)
class RestoreBlob:
    """What can be told of a restore blob by looking at it."""

    exchange_x5t_256: str
    tags: tuple[str, ...]
    size_bytes: int
    sha256: str


def inspect_restore_blob(data: bytes) -> RestoreBlob:
    """Check the shape of a restore blob and return what it says.

    Raises:
        InputFileError: not a restore blob; says what is wrong with it.
    """
    try:
        return _inspect(data)
    except CeremonyError as error:
        raise InputFileError(
            f"reading the restore blob: {error.message}",
            hint="Make it again with 'drengine ceremony combine'; nothing was sent.",
        ) from None


def _inspect(data: bytes) -> RestoreBlob:
    top = strict.members(
        strict.load_json(data, max_bytes=MAX_BLOB_BYTES), ("EncData", "WrappedKey"), "the file"
    )
    parts = parse_parts(top["EncData"])
    wrapped = strict.members(top["WrappedKey"], ("enc_key", "x5t_256"), "'WrappedKey'")
    x5t_256 = strict.thumbprint(wrapped["x5t_256"], "'WrappedKey.x5t_256'")
    try:
        parse_jwe(strict.text(wrapped["enc_key"], "it"), KeyAgreement.RSA)
    except CeremonyError as error:
        raise CeremonyError(f"'WrappedKey.enc_key': {error.message}") from None
    return RestoreBlob(
        exchange_x5t_256=x5t_256,
        tags=tuple(part.tag for part in parts),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def write_restore_blob(
    parts: Sequence[SealedPart], wrapped_key: CompactJwe, exchange_x5t_256: str
) -> bytes:
    """Return the blob's bytes, with the spacing and member order that `az` writes."""
    document = {
        "EncData": {
            "data": [{"compact_jwe": part.jwe.to_text(), "tag": part.tag} for part in parts],
            "kdf": KDF_NAME,
        },
        "WrappedKey": {"enc_key": wrapped_key.to_text(), "x5t_256": exchange_x5t_256},
    }
    return json.dumps(document).encode("ascii")
