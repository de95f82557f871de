"""Shut a process off before it touches secrets.

Not here: wiping memory. Python cannot do it; what works is that the process ends.

Rules:
- No core dump, not even through a piped core pattern: that, and reading this memory
  as the same user, is what clearing the dumpable flag prevents.
- No file can be written: the answer leaves by a pipe.
- Memory is locked where that cannot fail half way, and the report says whether.
- Until it has shut itself off a process can be opened by others of its user, and what they
  opened then they keep. So secrets are read by a fork that was never open (`go_on_unseen`).
- Who traces that process from its first moment may follow its fork. The parent therefore looks
  whether anybody traces one of the two before it says anything (`channel`).
- Root, snapshots of a hypervisor and hibernation stay outside of what this covers; so does
  whoever already traces the terminal's own processes as the same user, and whoever traced a
  child from its first moment, changed its program, and let go before the parent looked. Where
  `may_be_traced` says no, only root can.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drengine.errors import CeremonyError

_PR_SET_PDEATHSIG: Final = 1
_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT_AND_FUTURE: Final = 1 | 2
_CAP_IPC_LOCK: Final = 14
# With less, an allocation could fail in the middle of the work once all is locked.
_AMPLE_LOCKED_BYTES: Final = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Hardening:
    """What was achieved, read back from the kernel where it tells."""

    core_dumps_off: bool
    not_dumpable: bool
    memory_locked: bool
    swap_active: bool


def harden(*, may_write_files: bool = False) -> Hardening:
    """Switch off core dumps, tracing by others, file writes, and lock the memory.

    Parameters:
        may_write_files: for token modules, which keep lock or state files of their own.

    Raises:
        CeremonyError: core dumps or the dumpable flag could not be switched off.
    """
    faulthandler.disable()
    sys.settrace(None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not may_write_files:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    achieved = Hardening(
        core_dumps_off=resource.getrlimit(resource.RLIMIT_CORE) == (0, 0),
        not_dumpable=clear_dumpable(),
        memory_locked=_lock_memory(),
        swap_active=_is_swap_active(),
    )
    if not achieved.core_dumps_off or (sys.platform == "linux" and not achieved.not_dumpable):
        raise CeremonyError(
            "the process that opens keys could not shut itself off from core dumps and "
            "debuggers; no key was read",
            hint="Run the ceremony on a machine where prctl(PR_SET_DUMPABLE) is allowed.",
        )
    return achieved


def clear_dumpable() -> bool:
    """Keep other processes of this user from this one's memory and pipes; tell whether it worked.

    For a process that asks for a secret, too: whoever may open its end of a pipe reads along.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return bool(libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0)


def may_be_traced() -> bool:
    """Tell whether this system lets a process trace another of its user that it did not start."""
    if sys.platform != "linux":
        return False
    # Without Yama there is no such file, and no such rule.
    return _lines("/proc/sys/kernel/yama/ptrace_scope")[:1] in ([], ["0"])


def go_on_unseen() -> None:
    """Go on in a fork of this process, which must have shut itself off; end as the fork ends.

    Memory of this process that others opened before shows nothing of the fork. A tracer that
    asked to be given its forks (PTRACE_O_TRACEFORK) gets this one too: the parent looks for
    that. The fork dies with this process.
    """
    parent = os.getpid()
    worker = os.fork()
    if worker:
        _, status = os.waitpid(worker, 0)
        _end_as(os.waitstatus_to_exitcode(status))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _end_as(exitcode: int) -> None:
    if exitcode < 0:
        # Python ignores or handles a few signals; here each must end the process.
        if -exitcode not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-exitcode, signal.SIG_DFL)
        os.kill(os.getpid(), -exitcode)
    os._exit(exitcode)


def _lock_memory() -> bool:
    if sys.platform != "linux":
        return False
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    unlimited = hard == resource.RLIM_INFINITY or _may_lock_anything()
    if not unlimited and hard < _AMPLE_LOCKED_BYTES:
        return False
    return bool(ctypes.CDLL(None).mlockall(_MCL_CURRENT_AND_FUTURE) == 0)


def _may_lock_anything() -> bool:
    for line in _lines("/proc/self/status"):
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1)
    return False


def _is_swap_active() -> bool:
    return len(_lines("/proc/swaps")) > 1


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
