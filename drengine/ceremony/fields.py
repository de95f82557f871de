"""Messages of the ceremony: canonical JSON, typed, of bounded size, no unknown fields.

Every message is the canonical form of its value and nothing else: a byte more, a
member more or another order is refused. So two readers cannot see different things,
and a digest of the bytes is a digest of the meaning.

Not here: what the messages mean (`request`, `contribution`, `register`, `transcript`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

from drengine.ceremony import strict
from drengine.errors import CeremonyError
from drengine.model.canonical import canonical

MAX_TEXT: Final = 240
_HEX_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U00013441\U00013442\U00016fe4"
    "\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Unicode's Default_Ignorable_Code_Point (fillers too), and signs that show nothing: Braille
without a dot, hieroglyphs that are blank, the Khitan filler, a note without a head."""
_LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999."""

CLASSES: Final = ("drill", "incident")


def read_canonical(
    data: bytes, kind: str, names: Sequence[str], *, max_bytes: int, max_brackets: int = 128
) -> Fields:
    """Read a message of one type.

    A single newline at the end is passed over: editors and terminals add one.

    Raises:
        CeremonyError: too large, not canonical, another type, or a member too many.
    """
    content = data.removesuffix(b"\n")
    found = strict.load_json(content, max_bytes=max_bytes, max_brackets=max_brackets)
    if not isinstance(found, dict) or "type" not in found:
        raise CeremonyError("it is not a message of a ceremony")
    strict.literal(found["type"], kind, "its 'type'")
    strict.members(found, ("type", *names), "it")
    try:
        written = canonical(found)
    except ValueError:
        raise CeremonyError("it holds something that has no canonical form") from None
    if written != content:
        raise CeremonyError("it is not in canonical form: it was written or changed by hand")
    return Fields(found, "")


class Fields:
    """The members of one object, each read as what it must be."""

    def __init__(self, found: Mapping[str, object], where: str) -> None:
        self._found = found
        self._where = where

    def _name(self, name: str) -> str:
        return f"'{self._where}{name}'"

    def text(self, name: str, *, empty: bool = False) -> str:
        """Return a printable text of at most `MAX_TEXT` characters, one of them visible."""
        value = strict.text(self._found[name], self._name(name))
        if not is_plain_text(value) or not (has_visible(value) or (empty and not value)):
            raise CeremonyError(f"{self._name(name)} is empty, too long, or hides characters")
        return value

    def choice(self, name: str, known: Sequence[str]) -> str:
        """Return one of the known words."""
        value = strict.text(self._found[name], self._name(name))
        if value not in known:
            raise CeremonyError(f"{self._name(name)} is none of {', '.join(known)}")
        return value

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self._found[name]
        if not isinstance(value, bool):
            raise CeremonyError(f"{self._name(name)} is neither true nor false")
        return value

    def number(self, name: str, *, least: int, most: int) -> int:
        """Return an integer in a range."""
        value = strict.integer(self._found[name], self._name(name))
        if not least <= value <= most:
            raise CeremonyError(f"{self._name(name)} is {value}; expected {least} to {most}")
        return value

    def time(self, name: str) -> int:
        """Return epoch milliseconds."""
        return self.number(name, least=0, most=_LAST_MS)

    def digest(self, name: str) -> str:
        """Return a SHA-256 as 64 lower-case hex digits."""
        value = strict.text(self._found[name], self._name(name))
        if not _HEX_DIGEST.match(value):
            raise CeremonyError(f"{self._name(name)} is not a SHA-256 in hex")
        return value

    def thumbprint(self, name: str) -> str:
        """Return an x5t#S256."""
        return strict.thumbprint(self._found[name], self._name(name))

    def binary(self, name: str, *, sizes: Sequence[int]) -> bytes:
        """Return base64url bytes of one of the given sizes."""
        value = strict.text(self._found[name], self._name(name))
        found = strict.decode_base64url(value, self._name(name))
        if len(found) not in sizes:
            raise CeremonyError(f"{self._name(name)} has {len(found)} bytes")
        return found

    def ascii(self, name: str) -> str:
        """Return a text of ASCII letters, of any length."""
        value = strict.text(self._found[name], self._name(name))
        if not value.isascii():
            raise CeremonyError(f"{self._name(name)} is not ASCII text")
        return value

    def same(self, name: str, expected: str) -> None:
        """Require one certain text."""
        if strict.text(self._found[name], self._name(name)) != expected:
            raise CeremonyError(f"{self._name(name)} is not the text that drengine writes there")

    def raw(self, name: str) -> object:
        """Return a member unread."""
        return self._found[name]

    def inner(self, name: str, names: Sequence[str]) -> Fields:
        """Return an object inside this one."""
        found = strict.members(self._found[name], names, self._name(name))
        return Fields(found, f"{self._where}{name}.")

    def each(self, name: str, names: Sequence[str], *, least: int, most: int) -> list[Fields]:
        """Return a list of objects."""
        listed = strict.elements(self._found[name], self._name(name), least=least, most=most)
        return [
            Fields(strict.members(one, names, self._name(f"{name}[{at}]")), f"{name}[{at}].")
            for at, one in enumerate(listed)
        ]

    def texts(self, name: str, *, most: int) -> tuple[str, ...]:
        """Return a list of printable texts."""
        listed = strict.elements(self._found[name], self._name(name), least=0, most=most)
        inner = Fields({str(at): one for at, one in enumerate(listed)}, f"{name}.")
        return tuple(inner.text(str(at)) for at in range(len(listed)))


def is_plain_text(value: str) -> bool:
    """Tell whether a text shows what it is: printable, nothing invisible, not long."""
    return len(value) <= MAX_TEXT and value.isprintable() and not _INVISIBLE.search(value)


def comparable(name: str) -> str:
    """Return a name in the form in which two spellings of it are equal.

    Unicode's NFKC_Casefold (UAX #31), with white space folded: "José" typed on two
    keyboards is one name, and what does not show makes no other name of it.
    """
    shown = _INVISIBLE.sub("", unicodedata.normalize("NFKC", name))
    folded = unicodedata.normalize("NFKC", shown.casefold())
    return " ".join(folded.split())


def has_visible(value: str) -> bool:
    """Tell whether a text shows anything: one letter, digit, sign or mark of punctuation."""
    return any(unicodedata.category(one)[0] in "LNPS" for one in value)


def require_text(value: str, what: str) -> str:
    """Return a name or remark that a person gave, or refuse it.

    Raises:
        CeremonyError: empty, too long, or with characters that hide something.
    """
    if not has_visible(value) or not is_plain_text(value):
        raise CeremonyError(f"{what} is empty, longer than {MAX_TEXT} characters, or hides some")
    return value
