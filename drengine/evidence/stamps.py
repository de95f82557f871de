"""RFC 3161 time stamps: asked for over HTTP, made and checked by `openssl ts`.

Rules: what cannot be stamped now is recorded and stamped later; a token counts only if it
verifies against the root in the verifier's own trust folder, over exactly these bytes,
with SHA-256 or better.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from drengine.errors import InputError, InputFileError
from drengine.trust.outside import run

MAX_TOKEN_BYTES: Final = 1 << 20
ANSWER_SECONDS: Final = 20.0
"""How long an authority has to take a question or to go on with its answer."""

LATE_MS: Final = 15 * 60_000
"""A stamp that was made so long after a record, or longer, does not cover it."""

EARLY_MS: Final = 5 * 60_000
"""So far an engine's clock may be ahead of an authority's."""

_HASH: Final = re.compile(r"^Hash Algorithm: (\S+)$", re.MULTILINE)
_TIME: Final = re.compile(r"^Time stamp: (.+)$", re.MULTILINE)
_IMPRINT_DIGITS: Final = 64
_GOOD: Final = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What became of a token.

    Attributes:
        why: why it does not count; empty where it does.
        time, at_ms: when the authority says it saw the bytes.
    """

    why: str
    time: str = ""
    at_ms: int = 0


def check_stamp(data: Path, token: Path, roots: Path) -> Stamp:
    """Check a token over a file.

    Raises:
        InputFileError: openssl is not here.
    """
    shown = run(["openssl", "ts", "-reply", "-in", str(token), "-text"], None)
    said = shown.stdout.decode("utf-8", "replace")
    algorithm, time = _HASH.search(said), _TIME.search(said)
    if shown.returncode != 0 or algorithm is None or time is None:
        return Stamp("is not a time stamp")
    if algorithm[1].lower() not in _GOOD:
        return Stamp(f"uses {algorithm[1][:20]}, which can be forged", time[1])
    # -no_check_time does not exist for ts: a root must outlive its stamps, as RFC 3161 says.
    done = run(
        [
            *("openssl", "ts", "-verify", "-data", str(data), "-in", str(token)),
            *("-CAfile", str(roots)),
        ],
        None,
    )
    if done.returncode != 0:
        return Stamp(_reason(done.stderr.decode("utf-8", "replace")), time[1])
    try:
        return Stamp("", time[1], stamp_ms(time[1]))
    except ValueError:
        return Stamp("names a time that cannot be read", time[1])


def stamp_ms(text: str) -> int:
    """Return the milliseconds of a time as openssl writes it: `Dec  1 09:05:30 2026 GMT`.

    Raises:
        ValueError: it is not one.
    """
    whole = re.sub(r"\.[0-9]+", "", text)
    moment = datetime.strptime(whole, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1000


def _reason(said: str) -> str:
    if "message imprint mismatch" in said:
        return "is the time stamp of another document"
    if re.search(r"(invalid|unsupported|unsuitable)[a-z ]* certificate purpose", said):
        return "is signed by a certificate that may not stamp (no critical timeStamping use)"
    if "certificate verify error" in said or "unable to get" in said or "self-signed" in said:
        return "is not signed by an authority that the trust folder knows"
    return "does not verify"


def request_stamp(url: str, data: bytes, *, seconds: float = ANSWER_SECONDS) -> bytes:
    """Ask an authority to stamp bytes; return its reply, not yet checked against a root.

    Raises:
        InputError: the address is not one; InputFileError: no answer came, or one that is no
            stamp over these bytes.
    """
    check_address(url)
    with tempfile.TemporaryDirectory(prefix="drengine-tsa-") as name:
        file, query = Path(name) / "data", Path(name) / "query"
        file.write_bytes(data)
        done = run(
            [
                *("openssl", "ts", "-query", "-data", str(file), "-sha256", "-cert"),
                *("-out", str(query)),
            ],
            None,
        )
        if done.returncode != 0:
            raise InputFileError("making a time-stamp query: openssl did not make one")
        reply = _post(url, query.read_bytes(), seconds)
        answer = Path(name) / "reply"
        answer.write_bytes(reply)
        shown = run(["openssl", "ts", "-reply", "-in", str(answer), "-text"], None)
        if shown.returncode != 0 or b"Status: Granted" not in shown.stdout:
            raise InputFileError(f"the time-stamp authority {url} gave no time stamp")
        if _imprint(shown.stdout) != hashlib.sha256(data).hexdigest():
            raise InputFileError(
                f"the time-stamp authority {url} stamped something else than it was asked for"
            )
        return reply


def check_address(url: str) -> None:
    """Refuse what is not the address of an authority.

    Raises:
        InputError: it is not an http(s) address.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"the time-stamp authority {url[:200]!r} is not an http(s) address")


def _imprint(shown: bytes) -> str:
    """Return the digest that openssl shows in a reply, as hex digits."""
    said = shown.decode("utf-8", "replace").partition("Message data:")[2]
    rows = re.findall(r"^ +[0-9a-f]{4} - ([0-9a-f \-]{47}) ", said, re.MULTILINE)
    return re.sub(r"[^0-9a-f]", "", "".join(rows))[:_IMPRINT_DIGITS]


def _post(url: str, query: bytes, seconds: float) -> bytes:
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        url, data=query, headers={"Content-Type": "application/timestamp-query"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310 - as above
            reply: bytes = answer.read(MAX_TOKEN_BYTES + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise InputFileError(
            f"the time-stamp authority {url} cannot be reached: {error}",
            hint="It can be stamped later with the same command.",
        ) from None
    if len(reply) > MAX_TOKEN_BYTES:
        raise InputFileError(f"the time-stamp authority {url} answered with too many bytes")
    return reply
