"""Shut a process off before it touches secrets.

Not here: wiping memory. Python cannot do it; what works is that the process ends.

Rules:
- No core dump, not even through a piped core pattern: that, and reading this memory
  as the same user, is what clearing the dumpable flag prevents.
- No file can be written: the answer leaves by a pipe.
- Memory is locked where that cannot fail half way, and the report says whether.
- Root, snapshots of a hypervisor and hibernation stay outside of what this covers.
"""

from __future__ import annotations

import ctypes
import faulthandler
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drengine.errors import CeremonyError

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
        not_dumpable=_clear_dumpable(),
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


def _clear_dumpable() -> bool:
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return bool(libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0)


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
