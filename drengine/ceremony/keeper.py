"""The process that keeps the combiner's one-time key, and the handle on it.

`open` starts it; it makes the key in its memory, says the public half, and waits. For
each attempt to combine it starts a fresh child (`joining`) that gets the key by a pipe
and ends. The key is on no disk, and gone when this process ends, with its parent.

Not here: contributions, files, sockets (`session`).

Rule: nothing that goes wrong in one attempt ends the keeper, since the key would be gone
with it. An attempt that cannot even be started is refused.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

from drengine.ceremony.channel import Traced, require_unseen
from drengine.ceremony.made import Made, read_made
from drengine.ceremony.messages import decode_bytes, encode_bytes, read_result, write_refusal
from drengine.ceremony.spawn import (
    UNTRACED,
    ask_child,
    child_environment,
    command_of,
    how_it_ended,
    no_answer,
    start_line,
)
from drengine.errors import CeremonyError, DrError
from drengine.model.canonical import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Callable

    from drengine.ceremony.joining import JoinOrder

ONE_TIME_KEY_BITS: Final = 3072
_LAST_SECONDS: Final = 2.0
_MAX_SUBJECT: Final = 200
_START: Final = start_line("drengine.ceremony.keeper")
_JOINING: Final = start_line("drengine.ceremony.joining")


def main() -> NoReturn:
    """Keep one key until the parent lets go."""
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - the child's only
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - as above
        Ed25519PrivateKey,
    )
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - the child's only
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    from drengine.ceremony.hardening import (  # noqa: PLC0415 - the child's only
        go_on_unseen,
        harden,
    )
    from drengine.ceremony.signing import public_bytes  # noqa: PLC0415 - the child's only

    try:
        harden()
        go_on_unseen()
        hardening = harden()
    except DrError as error:
        _say(write_refusal(error))
        os._exit(0)
    key = rsa.generate_private_key(65537, ONE_TIME_KEY_BITS)
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signs = Ed25519PrivateKey.generate()
    opened = {
        "key": encode_bytes(public),
        "signs": encode_bytes(public_bytes(signs)),
        "memory_locked": hardening.memory_locked,
        "swap_active": hardening.swap_active,
        "pid": os.getpid(),
    }
    _say(json.dumps(opened).encode("ascii"))
    while order := sys.stdin.buffer.readline():
        _say(_attempt(order, private, signs.sign))
    os._exit(0)


def _line(order: dict[str, Any]) -> bytes:
    return json.dumps(order).encode("ascii") + b"\n"


def _say(answer: bytes) -> None:
    sys.stdout.buffer.write(answer + b"\n")
    sys.stdout.buffer.flush()


def _attempt(order: bytes, private: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    try:
        asked = json.loads(order)
        complete = {**asked, "key": encode_bytes(private)}
        answer, gone_ns = ask_child(_JOINING, json.dumps(complete).encode("ascii"))
        found = json.loads(answer)
    except DrError as error:
        return write_refusal(error)
    except (OSError, MemoryError) as error:
        return write_refusal(_not_started(error))
    except ValueError:
        return write_refusal(no_answer("combining", "broke off in the middle of its answer"))
    if "error" in found:
        return json.dumps(found).encode("ascii")
    made = _made(asked, found, gone_ns)
    signature = encode_bytes(sign(made.signed_bytes()))
    answer_for = {"blob": found["blob"], "made": made.to_json(), "signature": signature}
    return json.dumps(answer_for).encode("ascii")


def _made(asked: dict[str, Any], found: dict[str, Any], gone_ns: int) -> Made:
    """Put together what is signed, from the order and from what the child said of itself."""
    blob = decode_bytes(found["blob"])
    return Made(
        request=sha256_hex(decode_bytes(asked["request"])),
        head=str(asked["head"]),
        at_ms=int(asked["now_ms"]),
        blob_sha256=sha256_hex(blob),
        blob_size=len(blob),
        exchange_subject=str(found["exchange_subject"])[:_MAX_SUBJECT],
        custodians=tuple(found["custodians"]),
        misfits=tuple(found["misfits"].items()),
        twins=tuple(tuple(group) for group in found["twins"]),
        plain_ms=max(1, (gone_ns - int(found["since_ns"])) // 1_000_000),
        memory_locked=bool(found["memory_locked"]),
        swap_active=bool(found["swap_active"]),
        pid=int(found["pid"]),
    )


def _not_started(error: OSError | MemoryError) -> CeremonyError:
    why = error.strerror if isinstance(error, OSError) else ""
    return CeremonyError(
        "combining: the process that opens shares could not be started "
        f"({why or type(error).__name__}); nothing was opened, and the one-time key is still there",
        hint="The ceremony stays open. Make room: end other programs, look at 'ulimit -u' and at "
        "the free memory. Then combine again.",
    )


class Keeper:
    """The handle on a running keeper.

    Attributes:
        public_key: the one-time key's public half, as SubjectPublicKeyInfo.
        signs: the public half of the key that signs which blob was made, and how.
    """

    def __init__(self) -> None:
        self._running = subprocess.Popen(  # noqa: S603 - own interpreter, fixed words, no shell
            command_of(_START),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            # A Ctrl-C at the session's terminal is the session's to answer.
            start_new_session=True,
        )
        try:
            found = self._read()
            self._require_unseen(int(found["pid"]))
            self.public_key = decode_bytes(found["key"])
            self.signs = decode_bytes(found["signs"])
            self.memory_locked = bool(found["memory_locked"])
            self.swap_active = bool(found["swap_active"])
        except BaseException:
            self.close()
            raise

    def _require_unseen(self, worker: int) -> None:
        """Refuse a keeper into which another process looks: its one-time key is theirs."""
        if sys.platform != "linux":
            return
        try:
            require_unseen(worker, self._running.pid)
        except Traced as error:
            what = f"that would keep the one-time key is not used: {error}"
            raise no_answer("opening a ceremony", what, hint=UNTRACED) from None
        except OSError:
            raise self._gone() from None

    def combine(self, order: JoinOrder, head: str) -> tuple[bytes, Made, bytes]:
        """Let a fresh child make the blob; return it, how it was made, and the signature on that.

        Parameters:
            head: of the transcript now; it is signed with all that is said of the blob.

        Raises:
            DrError: whatever is wrong with a share, the domain or the quorum.
        """
        if self._running.stdin is None:
            raise no_answer("combining", "is not there")
        try:
            self._running.stdin.write(_line({**order.to_json(), "head": head}))
            self._running.stdin.flush()
        except OSError:
            raise self._gone() from None
        found = self._read()
        return (
            decode_bytes(found["blob"]),
            read_made(found["made"]),
            decode_bytes(found["signature"]),
        )

    def close(self) -> None:
        """End the keeper: the one-time key is gone with it."""
        self._running.kill()
        self._running.communicate()

    @property
    def is_alive(self) -> bool:
        """Whether the keeper runs; when it does not, the one-time key is gone."""
        return self._running.poll() is None

    def how_it_ended(self) -> str:
        """Say how a keeper ended that is not alive any more."""
        ended = self._running.poll()
        return "ended" if ended is None else how_it_ended(ended)

    @property
    def pid(self) -> int:
        """The keeper's process id."""
        return self._running.pid

    def _read(self) -> dict[str, Any]:
        line = b"" if self._running.stdout is None else self._running.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._gone()
        return read_result(line)

    def _gone(self) -> DrError:
        # Its pipe ended: so has it, or it is no use any more.
        with suppress(subprocess.TimeoutExpired):
            self._running.wait(_LAST_SECONDS)
        how = self.how_it_ended()
        self._running.kill()
        self._running.wait()
        return no_answer("combining", f"that keeps the one-time key {how}")


if __name__ == "__main__":
    main()
