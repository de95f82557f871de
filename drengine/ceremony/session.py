"""An open ceremony: keeps the one-time key alive, takes contributions, makes the blob.

Runs in the foreground of the combiner's terminal until the blob is made, somebody
cancels, the request expires, or the keeper of the key dies. Other commands reach it
through a socket in the ceremony's folder that only its owner may use.

Not here: the key (`keeper`), opening shares (`joining`), what contributions are taken
(`gathering`), the transcript (`minutes`), printing.

Rules:
- What happens is written before it is answered.
- What is refused is written down too. A refused attempt to combine leaves the ceremony
  open, so that one more custodian can contribute.
- No message ends the ceremony but those that mean to: whatever goes wrong while one is
  answered is refused and noted, and the next is answered.
- A blob is on the disk, and in the transcript, before the one-time key is let go.
- An entry bears the moment at which its message was held against the request, so that
  what was in time then is in time for every later reader.
- When it ends, however it ends, the one-time key is gone: a new ceremony has a new
  request, and contributions to the old one open nothing any more.
"""

from __future__ import annotations

import shlex
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from drengine.ceremony.fields import require_text
from drengine.ceremony.files import replace_private, write_new
from drengine.ceremony.folder import BLOB_NAME, REQUEST_NAME
from drengine.ceremony.gathering import Gathering
from drengine.ceremony.joining import JoinOrder
from drengine.ceremony.keeper import Keeper
from drengine.ceremony.made import Made, entries_of, sentence_of
from drengine.ceremony.messages import decode_bytes, encode_bytes
from drengine.ceremony.minutes import Minutes
from drengine.ceremony.request import CeremonyRequest
from drengine.ceremony.succession import CLOCK_LEEWAY_MS
from drengine.ceremony.transcript import Draft, remark
from drengine.ceremony.wire import SOCKET_NAME, bind_in, is_own_user, receive, reply
from drengine.errors import CeremonyError, DrError, InternalError, QuorumError

_NAP_SECONDS: Final = 0.5
_CLIENT_SECONDS: Final = 10.0
_NEW_ONE: Final = "Open a new one: drengine ceremony open --session NEW_FOLDER …"
SWAP_TEXT: Final = (
    "the one-time key's memory could not be locked while swap is active on this machine: parts "
    "of it may be written to the swap device"
)
_ALWAYS: Final = ("status", "combine", "cancel")
"""What is answered though the transcript has room for the end only."""
_NOTE_THEMSELVES: Final = ("add", "combine")
_Act = Callable[[dict[str, Any], int], dict[str, Any]]


class Session:
    """A ceremony that is open.

    Parameters:
        folder: an existing folder of the combiner's own; request, transcript and blob go there.
        keeper: keeps the one-time key whose public half the request names.
        now_ms: a clock that nobody sets: the time of the opening and what passed since.
        listener: told every entry of the transcript, for the combiner's screen.
        shown_ms: what the machine's own clock shows where it was set since; None where it was not.
        swap_accepted: whether somebody said that memory which may be swapped out will do.
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
        shown_ms: Callable[[], int | None] = lambda: None,
        swap_accepted: bool = False,
    ) -> None:
        self.request = request
        self._folder = folder
        self._keeper = keeper
        self._domain = domain
        self._exchange = exchange_certificate
        self._now_ms = now_ms
        self._shown_ms = shown_ms
        self._set_by_ms = 0
        self._minutes = Minutes(folder, listener)
        self._gathered = Gathering(folder, request, self._minutes)
        self._closed = ""
        self._because = ""
        self._acts: dict[str, _Act] = {
            "status": self._status,
            "add": self._add,
            "combine": self._combine,
            "deviation": self._deviation,
            "drop": self._drop,
            "cancel": self._cancel,
        }
        write_new(folder / REQUEST_NAME, request.to_bytes(), "the ceremony request")
        self._open(swap_accepted=swap_accepted)

    @property
    def outcome(self) -> str:
        """Why the ceremony is closed; empty while it is open."""
        return self._closed

    @property
    def blob_path(self) -> Path:
        """Where the blob lies once it is made."""
        return self._folder / BLOB_NAME

    @property
    def may_be_swapped(self) -> bool:
        """Whether the one-time key may be written to a swap device."""
        return self._keeper.swap_active and not self._keeper.memory_locked

    @property
    def memory(self) -> dict[str, bool]:
        """What the keeper of the one-time key says of its memory."""
        return {
            "memory_locked": self._keeper.memory_locked,
            "swap_active": self._keeper.swap_active,
        }

    def _open(self, *, swap_accepted: bool) -> None:
        opened = {
            "request": self.request.to_json(),
            "digest": self.request.digest,
            **self.memory,
        }
        drafts = [Draft("opened", self.request.combiner, opened)]
        if self.may_be_swapped:
            accepted = "; accepted with --accept-swap" if swap_accepted else ""
            drafts.append(remark(f"{SWAP_TEXT}{accepted}"))
        self._minutes.note(*drafts, at_ms=self._now_ms())

    def serve(self, announce: Callable[[], None] = lambda: None) -> str:
        """Answer until the ceremony is closed; return why it was.

        Parameters:
            announce: tells people of the ceremony, once it can be reached.
        """
        with bind_in(self._folder) as listening:
            listening.settimeout(_NAP_SECONDS)
            try:
                announce()
                while not self._closed:
                    self._look(self._now_ms())
                    self._answer_one(listening)
            finally:
                self.end()
                (self._folder / SOCKET_NAME).unlink(missing_ok=True)
        return self._closed

    def end(self) -> None:
        """Let the key go and note it, if the ceremony is open still."""
        self._close("interrupted", "the session was ended", self._now_ms())

    def _look(self, now_ms: int) -> None:
        """Close the ceremony when its time or its key is gone."""
        self._look_at_the_clock(now_ms)
        if now_ms >= self.request.expires_ms:
            self._close("expired", "the request's time is over", now_ms)
        elif not self._keeper.is_alive:
            how = self._keeper.how_it_ended()
            reason = (
                f"the process that keeps the one-time key {how}: the key is gone, and a new "
                "ceremony is needed"
            )
            self._close("interrupted", reason, now_ms)

    def _look_at_the_clock(self, now_ms: int) -> None:
        """Note that somebody set this machine's clock: the time that passed goes on to count."""
        if self._closed:
            return
        shown_ms = self._shown_ms()
        set_by_ms = 0 if shown_ms is None else shown_ms - now_ms
        if abs(set_by_ms - self._set_by_ms) <= CLOCK_LEEWAY_MS:
            return
        self._set_by_ms = set_by_ms
        noted = remark(
            f"this machine's clock was set: it shows {abs(set_by_ms) // 60_000} minutes "
            f"{'less' if set_by_ms < 0 else 'more'} than have passed since the ceremony was "
            "opened; the request's time goes by what has passed"
        )
        try:
            self._minutes.note(noted, at_ms=now_ms)
        except CeremonyError as unwritten:
            self._minutes.tell("warning", f"{noted.body['text']}; {unwritten.message}")

    def _answer_one(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            return
        except OSError:  # out of descriptors, say: the key is worth waiting for
            time.sleep(_NAP_SECONDS)
            return
        with connection:
            try:
                connection.settimeout(_CLIENT_SECONDS)
                if not is_own_user(connection):
                    return
                message = receive(connection)
            except Exception:  # noqa: BLE001 - whatever it is, it is no message of ours
                return
            answer = self._answer_or_refuse(message)
            try:
                reply(connection, answer)
            except OSError:
                if "blob" in answer:
                    self._minutes.tell("warning", "who asked for the blob went away before it came")

    def _answer_or_refuse(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._answer(message)
        except DrError as error:
            refusal = error
        except Exception as error:  # noqa: BLE001 - no message may end the ceremony
            refusal = self._unforeseen(message, error)
        return {
            "error": {
                "kind": type(refusal).__name__,
                "message": refusal.message,
                "hint": refusal.hint,
            }
        }

    def _unforeseen(self, message: dict[str, Any], error: Exception) -> DrError:
        """Note an exception that nobody expected: its type and place, not its text."""
        asked = message.get("do")
        what = asked if isinstance(asked, str) and asked in self._acts else "a message"
        refusal = InternalError(
            f"answering {what!r}: the session failed with {type(error).__name__} at "
            f"{_place_of(error)}; what was asked for was refused, and the ceremony is open still",
            hint="Go on without this one, and report this place.",
        )
        self._minutes.refuse(what, refusal, at_ms=self._now_ms())
        return refusal

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        now_ms = self._now_ms()
        self._look(now_ms)
        asked = str(message["do"])
        if self._closed:
            raise self._is_closed()
        if asked not in self._acts:
            raise CeremonyError("the session was asked for something that it does not know")
        if asked not in _ALWAYS and self._minutes.is_full:
            raise CeremonyError(
                "the transcript is full; nothing more can be noted but the end",
                hint="Combine with those who contributed, or cancel and open a new ceremony.",
            )
        try:
            return self._acts[asked](message, now_ms)
        except DrError as error:
            if asked not in _NOTE_THEMSELVES:
                self._minutes.refuse(asked, error, at_ms=now_ms)
            raise

    def _is_closed(self) -> CeremonyError:
        made = self._closed == "combined"
        return CeremonyError(
            f"the ceremony is closed: {self._closed} ({self._because})",
            hint=f"The blob lies in {self.blob_path}." if made else _NEW_ONE,
        )

    def _status(self, message: dict[str, Any], now_ms: int) -> dict[str, Any]:
        del message, now_ms
        return self._progress()

    def _progress(self) -> dict[str, Any]:
        return {
            "ceremony": self.request.ceremony,
            "contributed": self._gathered.thumbprints,
            "required": self.request.required,
            "head": self._minutes.head,
        }

    def _add(self, message: dict[str, Any], now_ms: int) -> dict[str, Any]:
        again = self._gathered.add(decode_bytes(message["contribution"]), now_ms)
        return {**self._progress(), "again": again} if again else self._progress()

    def _drop(self, message: dict[str, Any], now_ms: int) -> dict[str, Any]:
        by = require_text(str(message["by"]), "the name")
        reason = require_text(str(message["reason"]), "the reason")
        dropped = self._gathered.drop(str(message["custodian"]), by, reason, now_ms)
        who = {"custodian": dropped.custodian, "x5t_256": dropped.x5t_256}
        return {**self._progress(), "dropped": who}

    def _combine(self, message: dict[str, Any], now_ms: int) -> dict[str, Any]:
        del message
        try:
            self._require_quorum()
            made = self._keeper.combine(self._order(now_ms), self._minutes.head)
            # What begins here is brought to its end, whoever presses Ctrl-C.
            with _uninterrupted():
                return self._finish(*made, now_ms)
        except DrError as error:
            self._minutes.refuse("combine", error, at_ms=now_ms)
            self._look(now_ms)
            if self._closed:  # the keeper died of it: to try again would be no use
                raise self._is_closed() from None
            raise

    def _order(self, now_ms: int) -> JoinOrder:
        return JoinOrder(
            request=self.request.to_bytes(),
            domain=self._domain,
            exchange_certificate=self._exchange,
            contributions=self._gathered.messages,
            now_ms=now_ms,
            folder=str(self._folder),
        )

    def _finish(self, blob: bytes, made: Made, signature: bytes, now_ms: int) -> dict[str, Any]:
        """Keep the blob, note it, let the key go: in this order."""
        try:
            if not replace_private(self.blob_path, blob):
                self._minutes.tell(
                    "warning", f"{self.blob_path} could not be synced to its disk: copy it now"
                )
            self._minutes.note(*entries_of(made, signature, self.request), at_ms=now_ms)
        except DrError as error:
            with suppress(OSError):
                self.blob_path.unlink(missing_ok=True)
            raise CeremonyError(
                f"keeping the blob: {error.message}; no blob was handed out, the ceremony is open "
                "still, and so is its one-time key",
                hint=f"Make room in {self._folder}, then combine again: drengine ceremony combine "
                f"--session {shlex.quote(str(self._folder))} --out BLOB",
            ) from None
        self._close("combined", "the blob is made", now_ms)
        self._minutes.tell("combined", f"the blob lies in {self.blob_path}")
        return {
            **made.to_json(),
            "sentence": sentence_of(made, self.request),
            "blob": encode_bytes(blob),
            "kept": str(self.blob_path),
            "head": self._minutes.head,
        }

    def _require_quorum(self) -> None:
        missing = self.request.required - self._gathered.count
        if missing > 0:
            raise QuorumError(
                f"this ceremony needs {self.request.required} of its "
                f"{len(self.request.custodians)} custodians; {self._gathered.count} "
                "contributed",
                hint=f"Wait for {missing} more. The ceremony stays open.",
            )

    def _deviation(self, message: dict[str, Any], now_ms: int) -> dict[str, Any]:
        text = require_text(str(message["text"]), "the deviation")
        by = require_text(str(message["by"]), "the name")
        self._minutes.note(Draft("deviation", by, {"text": text}), at_ms=now_ms)
        return self._progress()

    def _cancel(self, message: dict[str, Any], now_ms: int) -> dict[str, Any]:
        reason = require_text(str(message["reason"]), "the reason")
        by = require_text(str(message["by"]), "the name")
        noted = self._close("cancelled", reason, now_ms, actor=by)
        return {"head": self._minutes.head, "noted": noted}

    def _close(self, why: str, reason: str, now_ms: int, *, actor: str = "") -> bool:
        """Let the key go and note it; tell whether it could be noted."""
        if self._closed:
            return True
        self._closed, self._because = why, reason
        with suppress(OSError, ValueError):  # of its pipes; killed it is before
            self._keeper.close()
        body = {"why": why, "reason": reason, "one_time_key": "gone with its process"}
        try:
            self._minutes.note(Draft("closed", actor or self.request.combiner, body), at_ms=now_ms)
        except CeremonyError as unwritten:
            self._minutes.tell("closed", reason)
            self._minutes.tell("warning", unwritten.message)
            return False
        return True


def _place_of(error: BaseException) -> str:
    """Return file and line of what failed; an exception's text stays out of the transcript."""
    place, step = "an unknown place", error.__traceback__
    while step is not None:
        place = f"{Path(step.tb_frame.f_code.co_filename).name}:{step.tb_lineno}"
        step = step.tb_next
    return place


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back what would end this process, until the work inside is done.

    By handlers and not by a mask: a mask holds for one thread, and the kernel gives a signal
    to whichever thread takes it.
    """
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda taken, _: came.append(taken))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for held_back in dict.fromkeys(came):
            signal.raise_signal(held_back)
