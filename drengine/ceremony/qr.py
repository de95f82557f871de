"""Messages as QR codes: what an air-gapped machine shows, another one's camera reads.

The only importer of `segno`. A code holds the message's bytes as they are, so that any
reader gives back the file.

Not here: reading codes. A scanner or phone gives text, which commands take on
standard input.
"""

from __future__ import annotations

import io
from typing import Final

import segno

from drengine.errors import CeremonyError

MAX_CODE_BYTES: Final = 2953
"""What the largest code (version 40, lowest correction) holds."""


def png_code(content: bytes) -> bytes:
    """Return a message as a PNG picture.

    Raises:
        CeremonyError: it is too long for one code.
    """
    picture = io.BytesIO()
    _code(content).save(picture, kind="png", scale=6, border=4)
    return picture.getvalue()


def terminal_code(content: bytes) -> str:
    """Return a message as a code of half blocks, for a terminal of enough rows.

    Raises:
        CeremonyError: it is too long for one code.
    """
    text = io.StringIO()
    _code(content).terminal(out=text, border=2, compact=True)
    return text.getvalue()


def _code(content: bytes) -> segno.QRCode:
    if len(content) > MAX_CODE_BYTES:
        raise CeremonyError(
            f"the message has {len(content)} bytes; one QR code holds {MAX_CODE_BYTES}",
            hint="Carry the file.",
        )
    # Lowest correction: a screen has no dirt on it, and smaller codes scan faster.
    return segno.make_qr(content, error="l", mode="byte", boost_error=False)
