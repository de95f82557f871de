"""Text that a service, a name or a step's output may hold to become more than text.

Loaded by conftest under one name.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from enum import StrEnum

HOSTILE = (
    "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}{% raw %}${7*7}"
    "\u202e\u0000\x1b[2J\x1b]0;x\x07\x9b31m</style><svg onload=alert(1)>]]><!--"
    "\n# INCIDENT\n| [x](javascript:alert(1)) `rm` |\r\n"
)


def poisoned(value):
    """Put hostile text into every field that holds text, however deep."""
    if isinstance(value, StrEnum):
        return value
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, dict):
        return {f"{key}{HOSTILE}": poisoned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(poisoned(item) for item in value)
    if is_dataclass(value):
        return replace(value, **{f.name: poisoned(getattr(value, f.name)) for f in fields(value)})
    return value
