"""Lines: their exact bytes, and what is refused in them."""

from __future__ import annotations

import hashlib
import io
import json
from itertools import pairwise

import pytest

from drengine.errors import JournalDamaged, JournalError
from drengine.journal import codec
from drengine.journal.lines import split_lines
from drengine.model.ids import RunId
from drengine.model.records import GENESIS_PREV, Draft, Head, RecordType

RUN = RunId("r-0123456789ab")
AT_MS = 1_795_341_600_123  # 2026-11-22T10:00:00.123Z
PREV = "ab" * 32


def note(body=None, **other):
    values = {"actor": "engine", "body": body or {}, "at_ms": AT_MS, "mono_ms": 7}
    return Draft(RecordType.NOTE, **(values | other))


def chain(count=5):
    lines, head = [], Head(-1, GENESIS_PREV)
    for n in range(count):
        draft = note({"n": n}) if n else Draft(RecordType.RUN_CREATED, "engine", {}, AT_MS, 1)
        line, record = codec.encode(draft, RUN, n, head.sha256)
        lines.append(line)
        head = Head(n, record.sha256)
    return lines, head


def line_of(**changes):
    doc = {
        "actor": "engine",
        "at": "2026-11-22T10:00:00.123Z",
        "body": {},
        "mono": 7,
        "prev": PREV,
        "run": RUN,
        "seq": 3,
        "type": "note",
    }
    for key, value in changes.items():
        if value is ...:
            del doc[key]
        else:
            doc[key] = value
    text = json.dumps(doc, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def refused(line):
    with pytest.raises(JournalDamaged) as error:
        codec.decode(line, 3, PREV, RUN)
    assert error.value.message.startswith("run r-0123456789ab: record 3: ")
    assert error.value.hint == "drengine journal verify r-0123456789ab"
    return error.value.message


def test_a_line_has_exactly_these_bytes():
    line, record = codec.encode(note({"ü": [1, None, True], "a": "x\n"}), RUN, 3, PREV)
    assert (
        line
        == (
            '{"actor":"engine","at":"2026-11-22T10:00:00.123Z","body":{"a":"x\\n","ü":[1,null,true]},'
            f'"mono":7,"prev":"{PREV}","run":"r-0123456789ab","seq":3,"type":"note"}}\n'
        ).encode()
    )
    assert record.sha256 == hashlib.sha256(line).hexdigest()
    assert codec.decode(line, 3, PREV, RUN) == record


def test_the_wall_clock_stands_in_the_line_only_where_it_differs():
    plain, _ = codec.encode(note(), RUN, 3, PREV)
    both, record = codec.encode(note(wall_ms=0), RUN, 3, PREV)
    assert b"wall" not in plain
    assert both.endswith(b'"type":"note","wall":"1970-01-01T00:00:00.000Z"}\n')
    assert record.wall_ms == 0
    assert codec.decode(both, 3, PREV, RUN) == record


def test_the_record_is_what_a_reader_of_the_line_gets():
    _, record = codec.encode(note({"b": (1, 2), "a": {"z": 1, "c": 2}}), RUN, 3, PREV)
    assert list(record.body) == ["a", "b"]
    assert list(record.body["a"]) == ["c", "z"]
    assert record.body["b"] == [1, 2]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": "note.unknown"}, "type 'note.unknown' is not known"),
        ({"type": None}, "type None is not known"),
        ({"type": ["note"]}, "is not known"),
        ({"type": "run.created"}, "run.created does not belong there"),
        ({"seq": 4}, "it says it is record 4"),
        ({"seq": True}, "it says it is record True"),
        ({"seq": "3"}, "it says it is record '3'"),
        ({"run": "r-ffffffffffff"}, "it belongs to run 'r-ffffffffffff'"),
        ({"prev": "cd" * 32}, "prev is cdcdcdcdcdcd…, but the line before has abababababab…"),
        ({"prev": None}, "prev is not a SHA-256"),
        ({"prev": PREV.upper()}, "prev is not a SHA-256"),
        ({"at": "2026-11-22T10:00:00Z"}, "is not a time"),
        ({"wall": None}, "is not a time"),
        ({"mono": -1}, "mono is not"),
        ({"mono": False}, "mono is not"),
        ({"mono": 1 << 63}, "mono is not"),
        ({"body": []}, "body is not an object"),
        ({"body": None}, "body is not an object"),
        ({"actor": ""}, "actor is not a text"),
        ({"actor": 1}, "actor is not a text"),
        ({"actor": ...}, "keys missing or unknown: ['actor']"),
        ({"mood": "good"}, "keys missing or unknown: ['mood']"),
        ({"body": {"x": 1.5}}, "1.5 is a number that canonical JSON has no form for"),
        ({"body": {"x": float("nan")}}, "NaN is a number that canonical JSON has no form for"),
        ({"body": {"x": "\ud800"}}, "can't decode"),
        ({"body": {"x": "y" * (1 << 20)}}, "longer than 1048576 bytes"),
        ({"body": json.loads('{"a":' * 60 + "1" + "}" * 60)}, "deeper than 40 levels"),
    ],
)
def test_a_line_that_says_what_it_must_not_is_refused(changes, reason):
    assert reason in refused(line_of(**changes))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "does not end with a newline"),
        (b"\n", "Expecting value"),
        (b"null\n", "is not a JSON object"),
        (b"[]\n", "is not a JSON object"),
        (line_of()[:-1], "does not end with a newline"),
        (line_of() + b"\n", "is not in canonical form"),
        (line_of() * 2, "Extra data"),
        (line_of().replace(b'"seq":3', b'"seq": 3'), "is not in canonical form"),
        (line_of().replace(b'"seq":3', b'"seq":3,"seq":3'), "key 'seq' stands twice"),
        (line_of().replace(b'"body":{}', b'"body":{"a":1,"a":1}'), "key 'a' stands twice"),
        (line_of().replace(b"engine", b"\\u0065ngine"), "is not in canonical form"),
        (line_of().replace(b'"seq":3', b'"seq":3.0'), "3.0 is a number"),
        (line_of().replace(b'"seq":3', b'"seq":3e0'), "3e0 is a number"),
        (line_of().replace(b'"mono":7', b'"mono":-0'), "is not in canonical form"),
        (line_of().replace(b"engine", b"eng\xffne"), "can't decode"),
        (line_of().replace(b"engine", b"\\ud800"), "surrogates not allowed"),
        (b"\xef\xbb\xbf" + line_of(), "Expecting value"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", "nested too deep"),
        (line_of().replace(b'"mono":7', b'"mono":' + b"7" * 5000), "Exceeds the limit"),
    ],
)
def test_bytes_that_are_not_canonical_are_refused(line, reason):
    assert reason in refused(line)


def test_a_line_of_exactly_the_longest_length_is_written_and_read():
    empty, _ = codec.encode(note({"x": ""}), RUN, 3, PREV)
    room = codec.MAX_LINE_BYTES - len(empty)
    line, record = codec.encode(note({"x": "y" * room}), RUN, 3, PREV)
    assert len(line) == codec.MAX_LINE_BYTES
    assert codec.decode(line, 3, PREV, RUN) == record
    assert list(split_lines(io.BytesIO(line))) == [line]
    with pytest.raises(JournalError, match="nothing was written"):
        codec.encode(note({"x": "y" * (room + 1)}), RUN, 3, PREV)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"actor": ""}, "actor is not a text"),
        ({"at_ms": -1}, "epoch milliseconds"),
        ({"wall_ms": 1 << 60}, "epoch milliseconds"),
        ({"mono_ms": -1}, "mono is not"),
        ({"body": {"x": 0.5}}, "float has no canonical form"),
        ({"body": {"x": b"bytes"}}, "bytes has no canonical form"),
    ],
)
def test_a_draft_that_could_not_be_read_again_is_not_written(changes, reason):
    with pytest.raises(JournalError, match=reason) as error:
        codec.encode(note(**changes), RUN, 3, PREV)
    assert "writing record 3 (note)" in error.value.message


# chains


def test_a_whole_chain_is_verified_to_its_end():
    lines, head = chain()
    assert codec.verify_lines(lines) == head
    assert (
        codec.verify_lines(iter(lines), RUN, [head, Head(0, hashlib.sha256(lines[0]).hexdigest())])
        == head
    )


def test_sha256sum_of_a_line_is_the_prev_of_the_next():
    lines, _ = chain()
    for before, after in pairwise(lines):
        assert json.loads(after)["prev"] == hashlib.sha256(before).hexdigest()


def test_no_record_at_all_is_not_a_chain():
    with pytest.raises(JournalDamaged, match="there is no record at all"):
        codec.verify_lines([])


def test_a_torn_last_line_is_told_apart_from_damage():
    lines, _ = chain()
    torn = io.BytesIO(b"".join(lines)[:-9])
    with pytest.raises(
        JournalDamaged,
        match=r"record 4: the last line is torn: it ends after \d+ bytes .*0 to 3 are whole",
    ):
        codec.verify_lines(split_lines(torn))


def test_a_torn_first_line_is_told():
    lines, _ = chain(1)
    with pytest.raises(JournalDamaged, match=r"torn.*nothing is whole"):
        codec.verify_lines([lines[0][:-1]])


def test_a_missing_newline_in_the_middle_is_damage():
    lines, _ = chain()
    lines[2] = lines[2][:-1]
    with pytest.raises(JournalDamaged, match="record 2: its line does not end with a newline"):
        codec.verify_lines(lines)


def test_a_line_without_end_is_refused_without_being_read():
    class Endless:
        asked = 0

        def read(self, limit):
            self.asked += limit
            return b"x" * limit

        readline = read

    stream = Endless()
    with pytest.raises(JournalDamaged, match="record 0"):
        codec.verify_lines(split_lines(stream), RUN)
    assert stream.asked <= 2 * (codec.MAX_LINE_BYTES + 1)


def test_a_cut_tail_is_seen_only_with_an_anchor():
    lines, head = chain()
    assert codec.verify_lines(lines[:-1]).seq == 3
    with pytest.raises(JournalDamaged, match="record 4: the chain ends at record 3, but an anchor"):
        codec.verify_lines(lines[:-1], anchors=[head])


def test_a_rewritten_last_record_is_seen_only_with_an_anchor():
    lines, head = chain()
    forged = [*lines[:-1], lines[-1].replace(b'"n":4', b'"n":5')]
    assert codec.verify_lines(forged).seq == 4
    with pytest.raises(JournalDamaged, match="record 4: is not the record that the anchor names"):
        codec.verify_lines(forged, anchors=[head])


def test_a_chain_of_another_run_is_refused():
    lines, _ = chain()
    with pytest.raises(JournalDamaged, match="record 0: it belongs to run"):
        codec.verify_lines(lines, RunId("r-ffffffffffff"))


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a\nb", "x" * 201])
def test_a_first_record_with_a_dangerous_run_name_is_refused(name):
    line, _ = codec.encode(
        Draft(RecordType.RUN_CREATED, "engine", {}, AT_MS, 1), RunId(name), 0, GENESIS_PREV
    )
    with pytest.raises(JournalDamaged, match="does not name its run"):
        codec.verify_lines([line])


def test_reading_goes_on_behind_a_known_head():
    lines, _ = chain()
    third = Head(2, hashlib.sha256(lines[2]).hexdigest())
    assert [record.seq for record in codec.records_of(lines[3:], RUN, third)] == [3, 4]


def test_only_a_finished_or_cancelled_run_ends_its_chain():
    def last(kind):
        return codec.encode(Draft(kind, "engine", {}, AT_MS, 1), RUN, 3, PREV)[0]

    assert codec.ends_chain(last(RecordType.RUN_FINISHED))
    assert codec.ends_chain(last(RecordType.RUN_CANCELLED))
    assert not codec.ends_chain(last(RecordType.RUN_STOPPED))
    assert not codec.ends_chain(b"rubbish\n")
    assert not codec.ends_chain(None)
