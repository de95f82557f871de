"""The codec under every kind of change that a line or a chain can suffer."""

from __future__ import annotations

import hashlib
import io
import json
import random
from contextlib import suppress
from enum import IntEnum, StrEnum
from itertools import pairwise
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drengine.errors import JournalDamaged, JournalError
from drengine.journal import codec
from drengine.journal.lines import split_lines
from drengine.journal.quick import ABSENT, Line, lines_of
from drengine.model.canonical import canonical
from drengine.model.ids import RunId
from drengine.model.records import GENESIS_PREV, Draft, Head, Record, RecordType
from drengine.model.times import utc_ms

RUN = RunId("r-0123456789ab")
PREV = "ab" * 32
MAX_MS = 253_402_300_799_999

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
leaves = st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
bodies = st.dictionaries(texts, values, max_size=5)
times = st.integers(0, MAX_MS)
drafts = st.builds(
    Draft,
    st.sampled_from([kind for kind in RecordType if kind is not RecordType.RUN_CREATED]),
    texts.filter(bool),
    bodies,
    times,
    st.integers(0, (1 << 63) - 1),
    st.none() | times,
)


@given(drafts, st.integers(1, 1 << 40))
def test_what_is_encoded_is_decoded_again(draft, seq):
    line, record = codec.encode(draft, RUN, seq, PREV)
    assert codec.decode(line, seq, PREV, RUN) == record
    assert record.sha256 == hashlib.sha256(line).hexdigest()
    assert (record.type, record.actor, record.body) == (draft.type, draft.actor, draft.body)
    assert (record.at_ms, record.mono_ms, record.wall_ms) == (
        draft.at_ms,
        draft.mono_ms,
        draft.wall_ms,
    )


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    SMALL = 1


class Text(str):
    __slots__ = ()


# What a caller without types might put into a body: some of it has a canonical form.
foreign = (
    leaves
    | st.floats()
    | st.binary(max_size=4)
    | st.datetimes()
    | st.decimals()
    | st.uuids()
    | st.sets(st.integers(0, 3), max_size=2)
    | st.sampled_from(
        [Colour.RED, Size.SMALL, Text("t"), Head(1, PREV), MappingProxyType({"a": 1})]
    )
    | st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2)
)
foreign_bodies = st.recursive(
    foreign,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(texts | st.integers(0, 3) | st.just(Colour.RED), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(texts, foreign_bodies, max_size=3))
@settings(max_examples=400)
def test_a_body_is_written_as_canonical_json_or_not_at_all(body):
    try:
        plain = canonical(body)
    except ValueError:
        with pytest.raises(JournalError, match="nothing was written"):
            codec.encode(Draft(RecordType.NOTE, "engine", body, 1, 7), RUN, 3, PREV)
        return
    line, record = codec.encode(Draft(RecordType.NOTE, "engine", body, 1, 7), RUN, 3, PREV)
    assert b'"body":' + plain + b',"mono":' in line
    assert codec.decode(line, 3, PREV, RUN) == record


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_damage(data):
    with pytest.raises(JournalDamaged):
        codec.verify_lines([data])


@st.composite
def lines_and_changed_ones(draw):
    """Give a line, and the same one with some bytes put in the place of others."""
    line, _ = codec.encode(draw(drafts), RUN, 3, PREV)
    start = draw(st.integers(0, len(line)))
    end = draw(st.integers(start, min(len(line), start + 6)))
    return line, line[:start] + draw(st.binary(max_size=6)) + line[end:]


@given(lines_and_changed_ones())
@settings(max_examples=300)
def test_bytes_put_anywhere_into_a_line_are_refused_or_are_a_whole_other_line(pair):
    line, changed = pair
    try:
        found = codec.decode(changed, 3, PREV, RUN)
    except JournalDamaged:
        return
    assert changed == line or found.sha256 != hashlib.sha256(line).hexdigest()


DEEP = "[" * 39 + "]" * 39
ODD = {
    "a float": ('"n":1', '"n":1.5'),
    "an exponent": ('"n":1', '"n":1e3'),
    "no number": ('"n":1', '"n":NaN'),
    "a key twice": ('"n":1', '"n":1,"n":2'),
    "a member twice": ('"actor":"engine"', '"actor":"engine","actor":"engine"'),
    "a member more": ('"actor":', '"Actor":1,"actor":'),
    "a member less": ('"actor":"engine",', ""),
    "nobody": ('"actor":"engine"', '"actor":""'),
    "a number for a name": ('"actor":"engine"', '"actor":1'),
    "a list for a body": ('"body":{"n":1}', '"body":[1]'),
    "no body": ('"body":{"n":1}', '"body":null'),
    "true for a count": ('"mono":7', '"mono":true'),
    "a negative count": ('"mono":7', '"mono":-7'),
    "a count beyond 63 bits": ('"mono":7', '"mono":9223372036854775808'),
    "a float that is whole": ('"mono":7', '"mono":7.0'),
    "no wall clock": ('"type":', '"type":"note","wall":null,"type":'),
    "an empty wall clock": ('"type":"note"', '"type":"note","wall":""'),
    "a foreign type": ('"type":"note"', '"type":"Note"'),
    "a birth in mid-life": ('"type":"note"', '"type":"run.created"'),
    "another form": ('"n":1', '"n": 1'),
    "an escape that is none": ('"n":1', '"n":"\\u0061"'),
    "too deep": ('"n":1', f'"n":[{DEEP}]'),
    "another place": ('"seq":3', '"seq":4'),
    "true for a place": ('"seq":3', '"seq":true'),
    "another time": ('"at":"2026', '"at":"x026'),
    "no newline": ("\n", ""),
    "white space behind": ("\n", " \n"),
    "two newlines": ("\n", "\n\n"),
}
PLAIN, _ = codec.encode(
    Draft(RecordType.NOTE, "engine", {"n": 1}, 1_795_341_600_000, 7), RUN, 3, PREV
)


def times_of(line: Line) -> list[int]:
    return [utc_ms(text) for text in (line.at, line.wall) if text is not ABSENT]


@pytest.mark.parametrize("name", ODD)
def test_an_odd_line_is_refused_whichever_reader_gets_it(name):
    old, new = ODD[name]
    odd = PLAIN.decode().replace(old, new, 1).encode()
    assert odd != PLAIN
    with pytest.raises(ValueError, match=r"."):
        times_of(codec._checked(odd, 3, PREV, RUN))
    with pytest.raises(JournalDamaged):
        codec.decode(odd, 3, PREV, RUN)


def test_a_body_as_deep_as_any_may_be_is_read_and_one_deeper_is_not():
    for depth, is_read in ((38, True), (39, False)):
        body = json.loads("[" * depth + "]" * depth)
        try:
            line, record = codec.encode(
                Draft(RecordType.NOTE, "engine", {"n": [body]}, 1, 7), RUN, 3, PREV
            )
        except JournalError:
            assert not is_read
            continue
        assert (codec.decode(line, 3, PREV, RUN), is_read) == (record, True)


def test_a_line_nested_to_where_any_reader_gives_up_is_damage():
    before, after = PLAIN.split(b'"n":1')
    for depth in (*range(30, 50), *range(60, 1100, 2), 20_000):
        odd = before + b'"n":' + b"[" * depth + b"]" * depth + after
        if depth <= 39:
            assert codec.decode(odd, 3, PREV, RUN).seq == 3
        else:
            with pytest.raises(JournalDamaged):
                codec.decode(odd, 3, PREV, RUN)


def test_a_line_longer_than_any_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(codec, "lines_of", None)
    monkeypatch.setattr(codec, "parse_canonical", None)
    long = b"[" * (codec.MAX_LINE_BYTES + 1)
    with pytest.raises(JournalDamaged, match="is longer than"):
        list(codec.records_of([long], RUN))


@given(lines_and_changed_ones())
@settings(max_examples=300)
def test_the_quick_reader_takes_nothing_that_the_careful_one_would_refuse(pair):
    for changed in pair:
        for found in lines_of([changed]):
            if codec._fits(found, 3, PREV, RUN):
                assert codec._checked(changed, 3, PREV, RUN) == found


def recut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes into rows as a store might hold them that somebody wrote into."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(places)]


def read_carefully(rows: list[bytes]) -> list[Record]:
    records, prev = [], GENESIS_PREV
    for seq, row in enumerate(rows):
        try:
            records.append(codec.decode(row, seq, prev, RUN))
        except JournalDamaged:
            break
        prev = records[-1].sha256
    return records


@given(
    st.lists(st.integers(0, 1 << 12), max_size=9),
    st.none() | st.tuples(st.integers(0, 1 << 12), st.binary(max_size=3)),
)
@settings(max_examples=400)
def test_many_lines_at_once_give_the_records_that_they_give_one_by_one(cuts, put):
    data = WHOLE
    if put is not None:
        place = put[0] % len(data)
        data = data[:place] + put[1] + data[place + len(put[1]) :]
    for rows in (recut(data, cuts), bytes_lines(data), [*bytes_lines(data), b""]):
        expected, found = read_carefully(rows), []
        if len(expected) < len(rows):
            with pytest.raises(JournalDamaged):
                found.extend(codec.records_of(rows, RUN))
            found = before_damage(rows)
        else:
            found.extend(codec.records_of(rows, RUN))
        assert found == expected


def before_damage(rows: list[bytes]) -> list[Record]:
    found: list[Record] = []
    with suppress(JournalDamaged):
        for record in codec.records_of(rows, RUN):
            found.append(record)  # noqa: PERF402 - what came before the error counts
    return found


def test_a_row_that_hides_a_second_line_is_refused():
    hiding = [LINES[0], LINES[1] + LINES[2], b"", *LINES[3:]]
    assert [record.seq for record in before_damage(hiding)] == [0]


def test_rows_without_a_byte_are_not_read_to_their_end():
    taken = []

    def rows():
        yield LINES[0]
        while True:
            taken.append(b"")
            yield b""

    with pytest.raises(JournalDamaged, match="record 1"):
        list(codec.records_of(rows(), RUN))
    assert len(taken) < 4


def test_lines_with_many_brackets_stand_among_others():
    lines, prev = [], GENESIS_PREV
    for seq in range(300):
        kind = RecordType.NOTE if seq else RecordType.RUN_CREATED
        body = {"n": [[]] * 50 if seq % 7 == 3 else seq, "filling": "x" * 500}
        line, record = codec.encode(Draft(kind, "engine", body, 1, 7), RUN, seq, prev)
        lines.append(line)
        prev = record.sha256
    assert list(codec.records_of(lines)) == read_carefully(lines)
    assert codec.verify_lines(split_lines(io.BytesIO(b"".join(lines)))).sha256 == prev


def make_chain(count: int, run: RunId = RUN) -> tuple[list[bytes], Head]:
    lines, head = [], Head(-1, GENESIS_PREV)
    for n in range(count):
        kind = RecordType.NOTE if n else RecordType.RUN_CREATED
        draft = Draft(kind, "engine", {"n": n, "text": "ü…"}, 1_795_341_600_000 + n, n)
        line, record = codec.encode(draft, run, n, head.sha256)
        lines.append(line)
        head = Head(n, record.sha256)
    return lines, head


LINES, HEAD = make_chain(6)
WHOLE = b"".join(LINES)


def bytes_lines(content: bytes) -> list[bytes]:
    parts = content.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def is_refused(content: bytes, anchors) -> bool:
    try:
        codec.verify_lines(bytes_lines(content), None, anchors)
    except JournalDamaged:
        return True
    return False


def flipped(bit: int) -> bytes:
    changed = bytearray(WHOLE)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_every_single_flipped_bit_is_refused():
    """With the head as an anchor, all; without it, all but flips inside the very last line."""
    last_line = len(WHOLE) - len(LINES[-1])
    for bit in range(len(WHOLE) * 8):
        content = flipped(bit)
        assert is_refused(content, [HEAD]), f"bit {bit} of {len(WHOLE) * 8}"
        assert bit // 8 >= last_line or is_refused(content, []), f"bit {bit} without an anchor"


def test_every_deleted_line_is_refused_but_the_last_only_with_an_anchor():
    for gone in range(len(LINES)):
        content = b"".join(LINES[:gone] + LINES[gone + 1 :])
        assert is_refused(content, [HEAD]), f"line {gone}"
        assert is_refused(content, []) == (gone != len(LINES) - 1), f"line {gone}"


def test_every_swap_of_two_lines_is_refused():
    for first in range(len(LINES)):
        for second in range(first + 1, len(LINES)):
            lines = LINES.copy()
            lines[first], lines[second] = lines[second], lines[first]
            assert is_refused(b"".join(lines), []), f"lines {first} and {second}"


def test_every_repeated_line_is_refused():
    for place in range(len(LINES) + 1):
        for line in LINES:
            assert is_refused(b"".join([*LINES[:place], line, *LINES[place:]]), [])


def test_every_line_of_another_run_is_refused():
    foreign, _ = make_chain(6, RunId("r-ba9876543210"))
    for place in range(len(LINES)):
        lines = [*LINES[:place], foreign[place], *LINES[place + 1 :]]
        assert is_refused(b"".join(lines), []), f"line {place}"


def test_every_cut_is_refused_except_at_the_end_of_a_record():
    boundaries = {sum(len(line) for line in LINES[:count]) for count in range(1, len(LINES) + 1)}
    for length in range(len(WHOLE)):
        content = WHOLE[:length]
        assert is_refused(content, [HEAD]), f"cut at {length} with an anchor"
        assert is_refused(content, []) == (length not in boundaries), f"cut at {length}"


def test_many_random_changes_are_refused():
    seed = 20_261_122
    rng = random.Random(seed)
    for trial in range(3000):
        content = bytearray(WHOLE)
        for _ in range(rng.randint(1, 5)):
            match rng.randrange(3):
                case 0:
                    content[rng.randrange(len(content))] = rng.randrange(256)
                case 1:
                    del content[rng.randrange(len(content))]
                case _:
                    content.insert(rng.randrange(len(content)), rng.randrange(256))
        if bytes(content) != WHOLE:
            assert is_refused(bytes(content), [HEAD]), f"replay: seed {seed}, trial {trial}"
