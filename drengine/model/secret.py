"""A secret value and a reference to one.

A `Secret` never shows itself: `str`, `repr`, formatting, pickling and JSON all
refuse or mask. Only `reveal()` gives the text, at the place that sends it. Plans
and journals hold a `SecretRef`, never a `Secret`.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import NoReturn

SECRET_SCHEMES = ("env", "file", "fd", "prompt", "mint")
USER_DELEGATION = "mint:user-delegation"
"""A SAS of the backup container, made with the operator's own sign-in when it is needed."""


class Secret:
    """Text that must not leave memory except to the one who needs it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; call it only where the text is sent."""
        return self._text

    def fingerprint(self, salt: bytes) -> str:
        """Return a salted HMAC that can be matched but not read."""
        return hmac.new(salt, self._text.encode(), sha256).hexdigest()

    def __repr__(self) -> str:
        return "Secret(•••)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied by a library."""
        raise TypeError("a Secret is not written anywhere")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text, other._text)

    def __hash__(self) -> int:
        return hash(Secret)


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is found: `env:NAME`, `file:PATH`, `fd:N`, `prompt:TEXT`.

    `mint:user-delegation` says how one is made instead.
    """

    scheme: str
    name: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}"

    @staticmethod
    def parse(text: str) -> SecretRef | None:
        """Return the reference that `text` is, or None where it is not one."""
        scheme, colon, name = text.partition(":")
        if not colon or scheme not in SECRET_SCHEMES or (not name and scheme != "prompt"):
            return None
        if scheme == "mint" and text != USER_DELEGATION:
            return None
        return SecretRef(scheme, name)
