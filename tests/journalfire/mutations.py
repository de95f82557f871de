"""Changes to an exported journal, by seed; every one of them must be refused.

Kinds: a flipped bit, a changed, lost or added byte, a cut tail, a deleted, doubled or
swapped record, a record of another run, a record with its hashes made right again. The
chain's end is known from an anchor, as it is in every report and manifest.
"""

from __future__ import annotations

import functools
import io
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from drengine.errors import JournalDamaged
from drengine.journal import codec
from drengine.journal.lines import split_lines
from drengine.model.canonical import canonical
from drengine.model.ids import RunId
from drengine.model.records import GENESIS_PREV, Draft, Head, RecordType

RUN, OTHER = RunId("r-0123456789ab"), RunId("r-ba9876543210")
_AT_MS = 1_795_341_600_123


def chain(run: RunId, seed: int, length: int = 12) -> list[bytes]:
    """Return the lines of a chain with bodies as the engine writes them."""
    rng = random.Random(f"{run}/{seed}")
    prev, lines = GENESIS_PREV, []
    for seq in range(length):
        kind = RecordType.RUN_CREATED if seq == 0 else rng.choice(_KINDS)
        body = {
            "step": rng.choice(["restore", "upload-domain"]),
            "outputs": {"Größe": rng.randint(0, 1 << 40), "ok": rng.random() < 0.5, "x": None},
            "exchanges": [{"path": "/é/\\u0041", "status": 202, "ms": seq}] * rng.randint(0, 2),
        }
        draft = Draft(kind, "engine", body, _AT_MS + seq * 977, seq * 13)
        line, record = codec.encode(draft, run, seq, prev)
        lines.append(line)
        prev = record.sha256
    return lines


_KINDS = [RecordType.INTENT, RecordType.ANSWER_DONE, RecordType.STEP_BEGUN, RecordType.NOTE]
Mutate = Callable[[random.Random, list[bytes]], bytes]


_LIKELY = [*b'0123456789abcdef",:{}[] \n\\', *range(0, 256, 7)]


def _flip(rng: random.Random, lines: list[bytes]) -> bytes:
    data = bytearray(b"".join(lines))
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _byte(rng: random.Random, lines: list[bytes]) -> bytes:
    data = bytearray(b"".join(lines))
    at = rng.randrange(len(data))
    old = data[at]
    data[at] = rng.choice(_LIKELY)
    if data[at] == old:
        data[at] ^= 0x21
    return bytes(data)


def _lose(rng: random.Random, lines: list[bytes]) -> bytes:
    data = bytearray(b"".join(lines))
    at = rng.randrange(len(data))
    del data[at : at + rng.choice([1, 1, 2, 64, 512])]
    return bytes(data)


def _add(rng: random.Random, lines: list[bytes]) -> bytes:
    data = bytearray(b"".join(lines))
    at = rng.randrange(len(data) + 1)
    data[at:at] = bytes(rng.choice(b' \n\t"0a{},\x00\xff') for _ in range(rng.choice([1, 1, 2, 9])))
    return bytes(data)


def _cut(rng: random.Random, lines: list[bytes]) -> bytes:
    return b"".join(lines)[: rng.randrange(sum(map(len, lines)))]


def _cut_record(rng: random.Random, lines: list[bytes]) -> bytes:
    return b"".join(lines[: rng.randrange(len(lines))])


def _delete(rng: random.Random, lines: list[bytes]) -> bytes:
    at = rng.randrange(len(lines))
    return b"".join(lines[:at] + lines[at + 1 :])


def _double(rng: random.Random, lines: list[bytes]) -> bytes:
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines) + 1)
    return b"".join([*lines[:to], lines[at], *lines[to:]])


def _swap(rng: random.Random, lines: list[bytes]) -> bytes:
    found = list(lines)
    one, two = rng.sample(range(len(lines)), 2)
    found[one], found[two] = found[two], found[one]
    return b"".join(found)


@functools.cache
def _other(number: int) -> list[bytes]:
    return chain(OTHER, number)


def _foreign(rng: random.Random, lines: list[bytes]) -> bytes:
    at = rng.randrange(len(lines))
    return b"".join([*lines[:at], _other(rng.randrange(4))[at], *lines[at + 1 :]])


def _rewritten(rng: random.Random, lines: list[bytes]) -> bytes:
    """Change one record and make every hash behind it right again, as a forger would."""
    at = rng.randrange(len(lines))
    prev, found = GENESIS_PREV, []
    for seq, line in enumerate(lines):
        doc = json.loads(line)
        doc["prev"] = prev
        if seq == at:
            doc["mono"] += rng.randint(1, 1000)
        made = canonical(doc) + b"\n"
        prev = codec.sha256_hex(made)
        found.append(made)
    return b"".join(found)


def _space(rng: random.Random, lines: list[bytes]) -> bytes:
    """Write one record with the same meaning and other bytes."""
    at = rng.randrange(len(lines))
    doc = json.loads(lines[at])
    changed = json.dumps(doc, sort_keys=rng.random() < 0.5, ensure_ascii=True).encode() + b"\n"
    return b"".join([*lines[:at], changed, *lines[at + 1 :]])


MUTATIONS: dict[str, Mutate] = {
    "flip": _flip,
    "byte": _byte,
    "lose": _lose,
    "add": _add,
    "cut": _cut,
    "cut_record": _cut_record,
    "delete": _delete,
    "double": _double,
    "swap": _swap,
    "foreign": _foreign,
    "rewritten": _rewritten,
    "space": _space,
}


@dataclass
class Result:
    """What a campaign of mutations came to."""

    tried: Counter[str] = field(default_factory=Counter)
    undetected: list[str] = field(default_factory=list)
    escaped: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0


def campaign(count: int, seed: int, stride: int = 1, first: int = 0) -> Result:
    """Try `count` mutations; the n-th depends on seed and n alone."""
    result = Result()
    chains = [chain(RUN, number) for number in range(4)]
    whole = [b"".join(lines) for lines in chains]
    heads = [codec.verify_lines(lines, RUN) for lines in chains]
    names = list(MUTATIONS)
    for n in range(first, count, stride):
        rng = random.Random(f"{seed}/{n}")
        name, which = names[n % len(names)], rng.randrange(4)
        data = MUTATIONS[name](rng, chains[which])
        if data == whole[which]:
            continue
        result.tried[name] += 1
        began = time.perf_counter()
        outcome = verdict(data, heads[which])
        result.slowest_ms = max(result.slowest_ms, (time.perf_counter() - began) * 1000)
        if outcome == "undetected":
            result.undetected.append(f"{name} n={n} seed={seed}")
        elif outcome:
            result.escaped.append(f"{name} n={n} seed={seed}: {outcome}")
    return result


def verdict(data: bytes, anchor: Head) -> str:
    """Return an empty text where the change is refused as it must be."""
    try:
        codec.verify_lines(split_lines(io.BytesIO(data)), RUN, [anchor])
    except JournalDamaged:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "undetected"
