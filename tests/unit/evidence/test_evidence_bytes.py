"""A bundle in which one byte is not what it was: none goes unseen, whatever the byte is for.

Every file, every class of byte in it (digits, letters, quotes, brackets, white space, what
is not ASCII, the first and the last byte) and every way to change it (another bit, another
byte of its class, one gone, one more, two in the other order) is one case. The suite takes a
seeded sample; `DRENGINE_BYTES=all` takes every case. What a bundle keeps outside the seal
(`stamps.json`, time stamps) is not among these: see `test_evidence_stamps`.
"""

from __future__ import annotations

import os
import random

import pytest

from drengine.evidence.sealed import verify_bundle
from drengine.trust.register import read_trust

CLASSES = {
    "digit": b"0123456789",
    "hex": b"abcdefABCDEF",
    "letter": b"ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ",
    "quote": b"\"'",
    "structure": b"{}[]<>():,=",
    "white": b" \n\t",
    "sign": b"-_/+.~|*#&;!?%$@^`\\",
    "other": bytes([*range(9), *range(11, 32), *range(127, 256)]),
}
SAMPLE = 32


def bit(data, place, dice):
    return data[:place] + bytes([data[place] ^ (1 << dice.randrange(8))]) + data[place + 1 :]


def like(data, place, dice):
    """Another byte of the same class: what stays well-formed."""
    same = next(bytes_ for bytes_ in CLASSES.values() if data[place] in bytes_)
    other = dice.choice([byte for byte in same if byte != data[place]])
    return data[:place] + bytes([other]) + data[place + 1 :]


def gone(data, place, dice):
    del dice
    return data[:place] + data[place + 1 :]


def more(data, place, dice):
    return data[:place] + bytes([dice.choice(b' \n0a"')]) + data[place:]


def turned(data, place, dice):
    del dice
    return data[:place] + data[place : place + 2][::-1] + data[place + 2 :]


WAYS = (bit, like, gone, more, turned)


def places_of(data, dice):
    """Yield one place for each class of byte that the file has, and its two ends."""
    yield "first", 0
    yield "last", len(data) - 1
    for name, members in CLASSES.items():
        if found := [place for place, byte in enumerate(data) if byte in members]:
            yield name, dice.choice(found)


def cases_of(folder, dice):
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = file.read_bytes()
        for name, place in places_of(data, dice):
            for way in WAYS:
                yield file, name, way, place


@pytest.mark.timeout(7200)
def test_one_changed_byte_never_goes_unseen(forger, cast, record_property):
    trust, dice = read_trust(cast.trust), random.Random(5)
    cases = list(cases_of(forger.path, dice))
    if os.environ.get("DRENGINE_BYTES") != "all":
        cases = dice.sample(cases, SAMPLE)
    unseen, tried = [], 0
    for file, name, way, place in cases:
        data = file.read_bytes()
        changed = way(data, place, dice)
        if changed == data:
            continue
        tried += 1
        file.write_bytes(changed)
        if not verify_bundle(forger.path, trust).problems:
            unseen.append(f"{file.relative_to(forger.path)} {way.__name__} {name} at {place}")
        file.write_bytes(data)
    record_property("changed_bytes", tried)
    print(f"{tried} changed bytes, {len(unseen)} unseen")
    assert unseen == []
    assert verify_bundle(forger.path, trust).holds


@pytest.mark.parametrize("name", ["attestation.dsse.json", "manifest.json", "SHA256SUMS"])
@pytest.mark.parametrize("change", ["more", "less"])
def test_white_space_that_changes_no_meaning_is_seen_by_both(forger, cast, name, change):
    file = forger.path / name
    data = file.read_bytes()
    file.write_bytes(data + b"\n" if change == "more" else data.removesuffix(b"\n"))
    assert verify_bundle(forger.path, read_trust(cast.trust)).problems
    assert forger.alone().returncode == 9
