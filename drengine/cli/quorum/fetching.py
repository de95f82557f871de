"""Let an open ceremony combine, and fetch the blob from it: checked, then written.

Not here: making it. A command believes no answer that does not fit the request.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drengine.cli.quorum.asking import add_contributions, memory_sentence
from drengine.errors import CeremonyError, DrError, InputFileError


def combine_in_session(session: Path, contributions: tuple[Path, ...], out: Path) -> dict[str, Any]:
    """Hand contributions to an open ceremony, let it make the blob, and write it.

    Raises:
        InputFileError: a file cannot be read, or `out` exists or cannot be written.
        CeremonyError: a contribution or the quorum is refused, or the answer is not what a
            session of this ceremony gives.
    """
    from drengine.ceremony.files import require_new, write_new  # noqa: PLC0415 - lazy
    from drengine.ceremony.wire import ask_session  # noqa: PLC0415 - lazy

    require_new(out)
    try:
        add_contributions(session, contributions)
        found = ask_session(session, {"do": "combine"})
    except CeremonyError as error:
        raise _with_kept(error, session) from None
    blob = _checked_blob(found, session)
    try:
        write_new(out, blob)
    except InputFileError as error:
        raise InputFileError(
            f"{error.message}; the blob is made, and lies in {found['kept']}",
            hint=f"Copy it from there: cp {shlex.quote(found['kept'])} BLOB. It is no secret.",
        ) from None
    return {**found, "out": str(out), "transcript": str(session / "transcript.json")}


def _checked_blob(found: dict[str, Any], session: Path) -> bytes:
    """Take the blob out of an answer, if it is one for the ceremony's exchange certificate."""
    from drengine.ceremony.blob import inspect_restore_blob  # noqa: PLC0415 - lazy
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - lazy
    from drengine.ceremony.messages import decode_bytes  # noqa: PLC0415 - lazy
    from drengine.ceremony.request import MAX_REQUEST_BYTES, parse_request  # noqa: PLC0415 - lazy

    asked = read_input(
        session / "request.json", "the ceremony request", max_bytes=MAX_REQUEST_BYTES
    )
    expected = parse_request(asked).exchange_x5t_256
    try:
        blob = decode_bytes(found.pop("blob"))
        looked = inspect_restore_blob(blob)
        named = str(found["blob_sha256"])
    except InputFileError as error:
        raise _not_ours(error.message) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _not_ours("the answer holds no blob") from None
    if looked.sha256 != named:
        raise _not_ours(f"the blob has SHA-256 {looked.sha256}, the answer names {named}")
    if looked.exchange_x5t_256 != expected:
        raise _not_ours(
            f"the blob is for the exchange certificate {looked.exchange_x5t_256}, the request "
            f"names {expected}"
        )
    return blob


def _not_ours(what: str) -> CeremonyError:
    return CeremonyError(
        f"combining: {what}; nothing was written",
        hint="This is not what the session of this ceremony answers. Deliver nothing, look at "
        "'drengine ceremony status', and who may write to the session's folder.",
    )


def _with_kept(error: CeremonyError, session: Path) -> CeremonyError:
    """Add where the blob lies to a refusal, when the ceremony has made it already."""
    from drengine.ceremony.blob import MAX_BLOB_BYTES  # noqa: PLC0415 - lazy
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - lazy
    from drengine.ceremony.folder import BLOB_NAME, TRANSCRIPT_NAME  # noqa: PLC0415 - lazy
    from drengine.ceremony.proving import prove  # noqa: PLC0415 - lazy
    from drengine.ceremony.transcript import MAX_TRANSCRIPT_BYTES  # noqa: PLC0415 - lazy

    kept = session / BLOB_NAME
    try:
        transcript = read_input(
            session / TRANSCRIPT_NAME, "the transcript", max_bytes=MAX_TRANSCRIPT_BYTES
        )
        blob = read_input(kept, "the restore blob", max_bytes=MAX_BLOB_BYTES)
        prove(transcript, blob=blob)
    except DrError:
        return error
    return CeremonyError(
        f"{error.message}; this ceremony has made its blob, which lies in {kept}",
        hint=f"Nothing is lost. Copy it from there: cp {shlex.quote(str(kept))} BLOB.",
    )


def joined_text(found: Mapping[str, Any]) -> str:
    """Say what was made, and what has to be written on paper."""
    return "\n".join(
        [
            f"Restore blob:  {found['out']} ({found['blob_size']} bytes)",
            f"  SHA-256      {found['blob_sha256']}",
            f"  kept in      {found['kept']}",
            f"Made for:      {found['exchange_subject']}",
            f"Custodians:    {len(found['custodians'])} shares used",
            *(f"  ⚠ left out   {one['why']}" for one in found["misfits"]),
            f"Transcript:    {found['transcript']}",
            f"  head         {found['head']}   (write it on the paper script)",
            "",
            found["sentence"],
            memory_sentence(locked=found["memory_locked"], swap=found["swap_active"]),
            "The one-time key is gone.",
            f"Next: drengine deliver RUN STEP {shlex.quote(found['out'])}   # where the run is",
        ]
    )
