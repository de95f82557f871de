"""An open ceremony: keeps the one-time key alive, takes contributions, writes the transcript.

Runs in the foreground of the combiner's terminal until the blob is made, somebody
cancels, or the request expires. Other commands reach it through a socket in the
ceremony's folder that only its owner may use.

Not here: the key (`keeper`), opening shares (`joining`), printing.

Rules:
- This process is the transcript's only writer, and writes before it answers.
- What is refused is written down too. A refused attempt to combine leaves the ceremony
  open, so that one more custodian can contribute.
- When it ends, however it ends, the one-time key is gone: a new ceremony has a new
  request, and contributions to the old one open nothing any more.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from drengine.ceremony.checking import check_contribution, check_distinct
from drengine.ceremony.contribution import Contribution, parse_contribution
from drengine.ceremony.fields import require_text
from drengine.ceremony.files import replace_private, write_new
from drengine.ceremony.joining import JoinOrder
from drengine.ceremony.keeper import Keeper
from drengine.ceremony.messages import decode_bytes, encode_bytes
from drengine.ceremony.request import CeremonyRequest
from drengine.ceremony.transcript import MAX_ENTRIES, Transcript
from drengine.ceremony.wire import SOCKET_NAME, bind_in, receive, reply
from drengine.errors import CeremonyError, DrError, QuorumError
from drengine.model.canonical import sha256_hex

REQUEST_NAME: Final = "request.json"
TRANSCRIPT_NAME: Final = "transcript.json"
ATTESTATIONS_NAME: Final = "attestations"
_NAP_SECONDS: Final = 0.5
_CLIENT_SECONDS: Final = 10.0
_KEPT_FOR_CLOSE: Final = 8
SENTENCE: Final = (
    "The security domain's plain contents existed in the memory of process {pid} on host {host} "
    "for {ms} ms, and nowhere else that drengine knows of."
)


class Session:
    """A ceremony that is open.

    Parameters:
        folder: an existing folder of the combiner's own; request and transcript go there.
        keeper: keeps the one-time key whose public half the request names.
        now_ms: the clock.
        listener: told every entry of the transcript, for the combiner's screen.
    """

    def __init__(
        self,
        folder: Path,
        request: CeremonyRequest,
        keeper: Keeper,
        *,
        domain: bytes,
        exchange_certificate: bytes,
        now_ms: Callable[[], int],
        listener: Callable[[str, str], None],
    ) -> None:
        self.request = request
        self._folder = folder
        self._keeper = keeper
        self._domain = domain
        self._exchange = exchange_certificate
        self._now_ms = now_ms
        self._listener = listener
        self._contributions: dict[str, Contribution] = {}
        self._transcript = Transcript()
        self._closed = ""
        (folder / ATTESTATIONS_NAME).mkdir(mode=0o700, exist_ok=True)
        write_new(folder / REQUEST_NAME, request.to_bytes(), "the ceremony request")
        opened = {
            "request": request.to_json(),
            "digest": request.digest,
            "memory_locked": keeper.memory_locked,
            "swap_active": keeper.swap_active,
        }
        self._note("opened", request.combiner, opened)

    def serve(self) -> str:
        """Answer until the ceremony is closed; return why it was."""
        with bind_in(self._folder) as listening:
            listening.settimeout(_NAP_SECONDS)
            try:
                while not self._closed:
                    self._expire()
                    with suppress(TimeoutError):
                        self._answer_one(listening)
            finally:
                self._close("interrupted", self.request.combiner, "the session was ended")
                (self._folder / SOCKET_NAME).unlink(missing_ok=True)
        return self._closed

    def _expire(self) -> None:
        if self._now_ms() >= self.request.expires_ms:
            self._close("expired", self.request.combiner, "the request's time is over")

    def _answer_one(self, listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(_CLIENT_SECONDS)
            if not _is_own_user(connection):
                return
            try:
                answer = self._answer(receive(connection))
            except DrError as error:
                answer = {"error": {"kind": type(error).__name__, **_texts(error)}}
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                return  # not a message of ours; the ceremony goes on
            with suppress(OSError):
                reply(connection, answer)

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        acts: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "status": self._status,
            "add": self._add,
            "combine": self._combine,
            "deviation": self._deviation,
            "cancel": self._cancel,
        }
        self._expire()
        act = str(message["do"])
        if self._closed:
            raise CeremonyError(
                f"the ceremony is closed: {self._closed}",
                hint="Open a new one: drengine ceremony open",
            )
        if act != "cancel" and len(self._transcript.entries) >= MAX_ENTRIES - _KEPT_FOR_CLOSE:
            raise CeremonyError("the transcript is full; cancel, and open a new ceremony")
        return acts[act](message)

    def _status(self, message: dict[str, Any]) -> dict[str, Any]:
        del message
        return {
            "ceremony": self.request.ceremony,
            "contributed": list(self._contributions),
            "required": self.request.required,
            "head": self._transcript.head,
        }

    def _add(self, message: dict[str, Any]) -> dict[str, Any]:
        data = decode_bytes(message["contribution"])
        try:
            contribution = parse_contribution(data)
            check_contribution(contribution, self.request, now_ms=self._now_ms())
            x5t_256 = contribution.statement.x5t_256
            earlier = self._contributions.get(x5t_256)
            if earlier is not None and earlier.to_bytes() == contribution.to_bytes():
                return {**self._status({}), "again": contribution.statement.custodian}
            check_distinct([*self._contributions.values(), contribution])
        except DrError as error:
            self._refused("contribution", error, sha256_hex(data))
            raise
        self._take(contribution)
        return self._status({})

    def _take(self, contribution: Contribution) -> None:
        attestation, statement = contribution.attestation, contribution.statement
        self._contributions[statement.x5t_256] = contribution
        self._note("contributed", statement.custodian, {"attestation": attestation.to_json()})
        name = f"{sha256_hex(statement.x5t_256.encode())[:8]}.json"
        replace_private(self._folder / ATTESTATIONS_NAME / name, attestation.to_bytes())
        if not attestation.is_signed:
            self._remark(f"the contribution of {statement.custodian} is not signed")
        if statement.host.split()[-1] == self.request.combiner_host.split()[-1]:
            self._remark(f"{statement.custodian} contributed on the combiner's own machine")

    def _combine(self, message: dict[str, Any]) -> dict[str, Any]:
        del message
        order = JoinOrder(
            request=self.request.to_bytes(),
            domain=self._domain,
            exchange_certificate=self._exchange,
            contributions=[one.to_bytes() for one in self._contributions.values()],
            now_ms=self._now_ms(),
        )
        try:
            self._require_quorum()
            blob, report = self._keeper.combine(order)
        except DrError as error:
            self._refused("combine", error, "")
            raise
        body = {
            "blob_sha256": sha256_hex(blob),
            "blob_size": len(blob),
            "custodians": report["custodians"],
            "exchange_subject": report["exchange_subject"][:200],
            "plain_ms": report["plain_ms"],
            "memory_locked": report["memory_locked"],
            "swap_active": report["swap_active"],
            "sentence": SENTENCE.format(
                pid=report["pid"], host=self.request.combiner_host, ms=report["plain_ms"]
            ),
        }
        self._note("combined", self.request.combiner, body)
        self._close("combined", self.request.combiner, "the blob is made")
        return {**body, "blob": encode_bytes(blob), "head": self._transcript.head}

    def _require_quorum(self) -> None:
        missing = self.request.required - len(self._contributions)
        if missing > 0:
            raise QuorumError(
                f"this ceremony needs {self.request.required} of its "
                f"{len(self.request.custodians)} custodians; {len(self._contributions)} "
                "contributed",
                hint=f"Wait for {missing} more. The ceremony stays open.",
            )

    def _deviation(self, message: dict[str, Any]) -> dict[str, Any]:
        text = require_text(str(message["text"]), "the deviation")
        self._note("deviation", require_text(str(message["by"]), "the name"), {"text": text})
        return self._status({})

    def _cancel(self, message: dict[str, Any]) -> dict[str, Any]:
        reason = require_text(str(message["reason"]), "the reason")
        self._close("cancelled", require_text(str(message["by"]), "the name"), reason)
        return {"head": self._transcript.head}

    def _remark(self, text: str) -> None:
        self._note("deviation", "drengine", {"text": text})

    def _refused(self, what: str, error: DrError, sha256: str) -> None:
        body = {"what": what, "code": error.code, "message": error.message, "sha256": sha256}
        self._note("refused", "drengine", body)

    def _close(self, why: str, actor: str, reason: str) -> None:
        if self._closed:
            return
        self._keeper.close()
        body = {"why": why, "reason": reason, "one_time_key": "gone with its process"}
        self._closed = why
        self._note("closed", actor, body)

    def _note(self, kind: str, actor: str, body: dict[str, Any]) -> None:
        entry = self._transcript.append(kind, actor, body, self._now_ms())
        replace_private(self._folder / TRANSCRIPT_NAME, self._transcript.to_bytes())
        self._listener(entry.kind, _told(entry.kind, actor, body))


def _told(kind: str, actor: str, body: dict[str, Any]) -> str:
    words = body.get("text") or body.get("message") or body.get("reason") or ""
    return f"{actor}: {words}" if words else f"{actor} {kind}" if kind != "opened" else actor


def _texts(error: DrError) -> dict[str, str]:
    return {"message": error.message, "hint": error.hint}


def _is_own_user(connection: socket.socket) -> bool:
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True  # the socket's mode is what guards it there
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, size))
    return bool(uid == os.getuid())
