"""The request code: what custodians compare with the combiner's screen, by voice.

96 bits of the request's digest, as 24 hex digits or as twelve words. It is typed, not
confirmed: who types it has read it.

Not here: the request itself (`request`).
"""

from __future__ import annotations

import re
from typing import Final

CODE_BYTES: Final = 12
_GROUP: Final = 4
_HEX: Final = re.compile(r"[0-9a-f]+\Z")
# 256 plain words, told apart by their first four letters.
_WORDS: Final = """
    acorn actor agent alarm album amber angle apple april arena arrow atlas autumn bacon badge
    bagel bakery bamboo banjo basil basket beach beard beaver bench berry birch bison blanket
    bonnet border bottle bridge bronze bucket butter cabin cactus camel candle canoe canyon
    carbon carpet castle cedar cello cherry chess cinema circus citrus clover cobalt coffee
    comet cookie copper coral cotton cousin crater cricket crystal curtain daisy dancer dentist
    desert diesel dinner doctor dolphin donkey dragon drawer eagle earth easel echo elbow elder
    ember engine envoy estate fabric falcon farmer feather ferry fiddle finger flame flute
    forest fossil fountain fridge galaxy garden garlic gazelle ginger glacier globe goblet
    gorilla granite guitar hammer harbor hazel helmet heron hockey honey hotel hunter icicle
    igloo impala indigo insect island ivory jacket jaguar jasmine jelly jigsaw jockey jungle
    kayak kettle kidney kiosk kitten koala ladder lagoon lantern laurel lemon lentil library
    lily lizard lobster locket lumber magnet mango maple marble meadow medal melon mirror mitten
    monkey moose morning mosaic mustard napkin needle nephew nickel noodle novel nugget oasis
    ocean olive onion opera orange orchid otter oyster paddle palace panda parrot pebble pelican
    pepper piano pigeon pillow planet plum pocket pony potato puzzle quartz quiver rabbit radar
    radish raven ribbon river robin rocket ruby saddle safari salmon sandal saturn scarf sister
    sketch spider squash statue sugar summit sunset tango teapot temple tiger timber toast
    tomato tractor trumpet tulip tundra turtle umbrella uncle unicorn valley vanilla velvet
    violin volcano wagon walnut waltz wander window winter wizard wolf yacht yellow yogurt zebra
    zipper zodiac
""".split()  # noqa: SIM905 - 256 quoted words are harder to read


def code_of(digest: str) -> str:
    """Return the request code of a digest: six groups of four hex digits."""
    digits = digest[: CODE_BYTES * 2]
    return " ".join(digits[at : at + _GROUP] for at in range(0, len(digits), _GROUP))


def words_of(digest: str) -> str:
    """Return the same code as twelve words to read aloud."""
    return " ".join(_WORDS[byte] for byte in bytes.fromhex(digest[: CODE_BYTES * 2]))


def is_code_of(typed: str, digest: str) -> bool:
    """Tell whether what a person typed is this digest's code, in digits or in words."""
    if typed.isascii() and (words := typed.lower().replace("-", " ").split()):
        if len(words) == CODE_BYTES and (found := _bytes_of(words)) is not None:
            return found == bytes.fromhex(digest[: CODE_BYTES * 2])
        digits = "".join(words)
        return bool(_HEX.match(digits)) and digits == digest[: CODE_BYTES * 2]
    return False


def _bytes_of(words: list[str]) -> bytes | None:
    # Four letters are enough: nobody is refused for writing "harbour".
    by_start = {word[:_GROUP]: number for number, word in enumerate(_WORDS)}
    numbers = [by_start.get(word[:_GROUP], -1) for word in words]
    return None if min(numbers) < 0 else bytes(numbers)
