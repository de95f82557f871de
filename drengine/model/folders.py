"""Names of backup folders: whose backup one is, and when it was begun. Pure.

The service names a folder `mhsm-NAME-DIGITS`. The digits are the UTC second and up to three
more for its parts: recordings show 16 and 17 of them, `mhsm-clitest-1102-2020122004445528`
(mhsm-protocol §2.4). Names of HSMs may hold hyphens and digits, so how a folder's name begins
does not say whose it is: `mhsm-prod-dr-…` is not a backup of `prod`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_STAMP: Final = re.compile(r"[0-9]{14,17}")
_SECOND_DIGITS: Final = 14


def folder_prefix(hsm_name: str) -> str:
    """Return how the folders of an HSM's backups begin, in lower case: for listing only.

    Folders of another HSM may begin so, too: `is_folder_of` tells them apart.
    """
    return f"mhsm-{hsm_name.lower()}-"


def is_folder_of(hsm_name: str, folder: str) -> bool:
    """Whether a folder's whole name is that of a backup of this HSM, in any case."""
    prefix, lowered = folder_prefix(hsm_name), folder.lower()
    return lowered.startswith(prefix) and bool(_STAMP.fullmatch(lowered[len(prefix) :]))


def folder_form(hsm_name: str) -> str:
    """Return in words what the folders of an HSM's backups are named."""
    return f"{folder_prefix(hsm_name)} and 14 to 17 digits of its time"


def folder_time_ms(folder: str) -> int | None:
    """Return when a backup folder was begun, by the first 14 digits of its time."""
    digits = folder.rsplit("-", 1)[-1][:_SECOND_DIGITS]
    try:
        return int(datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        return None
