"""What every store must do, asked of each of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drengine.errors import Fenced, InputError, JournalDamaged, JournalError, Locked
from drengine.journal.chain import MAX_SIGNAL_BYTES
from drengine.model.canonical import canonical, sha256_hex
from drengine.model.ids import RunId
from drengine.model.records import GENESIS_PREV, Head, RecordType, Signal

RUN = RunId("r-0123456789ab")
OTHER = RunId("r-ba9876543210")
CHILD = RunId("r-0123456789ab/mi-1")


def signal(id_: str, run: RunId = RUN, kind: str = "approve") -> Signal:
    return Signal(id_, run, kind, "operator:ada", {"gate": "approve-restore", "n": 1}, 5)


# creating


def test_a_created_run_has_record_0(store, draft):
    assert not store.exists(RUN)
    head = store.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED, plan="p"))
    assert store.exists(RUN)
    assert store.head(RUN) == head
    (record,) = store.read(RUN)
    assert (record.seq, record.prev, record.body) == (0, GENESIS_PREV, {"plan": "p"})
    assert Head(0, record.sha256) == head


def test_the_same_genesis_again_changes_nothing_and_tells_the_end(store, draft, writer, later):
    genesis = draft(RecordType.RUN_CREATED, plan="p", list=(1, 2))
    store.create(RUN, "a title", "drill", genesis)
    end = writer(store, RUN)
    end.note(x=1)
    before = list(store.lines(RUN))
    assert store.create(RUN, "another title", "drill", later(genesis)) == end.head
    assert list(store.lines(RUN)) == before


def test_another_genesis_is_refused_and_changes_nothing(store, draft):
    store.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED, plan="p"))
    before = list(store.lines(RUN))
    with pytest.raises(Locked, match="began with another record 0"):
        store.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED, plan="q"))
    assert list(store.lines(RUN)) == before


def test_a_run_begins_with_nothing_but_its_creation(store, draft):
    with pytest.raises(JournalError, match=r"would be note, expected run\.created"):
        store.create(RUN, "a title", "drill", draft(RecordType.NOTE))
    assert not store.exists(RUN)


@pytest.mark.parametrize(
    "bad", ["", "../x", "r-1/", "/r-1", "r-1//x", "r 1", "-r", "r" * 201, "r\n"]
)
def test_a_run_id_that_is_not_fit_for_a_file_name_is_refused(store, draft, bad):
    with pytest.raises(JournalError, match="run id"):
        store.create(RunId(bad), "a title", "drill", draft(RecordType.RUN_CREATED))
    assert not store.exists(RunId(bad))


@pytest.mark.parametrize("ask", ["head", "read", "lines", "acquire"])
def test_asking_for_a_run_that_is_not_there_says_so(store, ask):
    calls = {
        "head": lambda: store.head(RUN),
        "read": lambda: list(store.read(RUN)),
        "lines": lambda: list(store.lines(RUN)),
        "acquire": lambda: store.acquire(RUN, "x"),
    }
    with pytest.raises(JournalError, match="there is no run r-0123456789ab"):
        calls[ask]()
    assert not store.exists(RUN)


# appending and reading


def test_appended_records_are_read_back_as_they_were_returned(store, writer, draft):
    chain = writer(store, RUN)
    wrote = [*chain.append(draft(a=1), draft(b=(1, {"z": 1, "a": None}))), chain.note(ü="…")]
    assert [record.seq for record in wrote] == [1, 2, 3]
    assert list(store.read(RUN))[1:] == wrote
    assert store.head(RUN) == chain.head
    # The fold must see one order, whether a record is new or read again.
    assert list(wrote[1].body["b"][1]) == ["a", "z"]


def test_lines_are_the_bytes_that_were_hashed(store, writer):
    chain = writer(store, RUN)
    chain.note(x=1)
    chain.note(x=2)
    lines = list(store.lines(RUN))
    records = list(store.read(RUN))
    assert [sha256_hex(line) for line in lines] == [record.sha256 for record in records]
    assert [record.prev for record in records[1:]] == [sha256_hex(line) for line in lines[:-1]]


def test_reading_begins_behind_a_record(store, writer):
    chain = writer(store, RUN)
    for n in range(5):
        chain.note(n=n)
    assert [record.seq for record in store.read(RUN, after=3)] == [4, 5]
    assert list(store.read(RUN, after=5)) == []


def test_reading_behind_a_record_that_is_not_there_is_damage(store, writer):
    writer(store, RUN).note()
    with pytest.raises(JournalDamaged, match="record 7: is missing: the chain ends at record 1"):
        list(store.read(RUN, after=7))


def test_a_reader_sees_the_chain_as_it_was_when_it_began(store, writer):
    chain = writer(store, RUN)
    chain.note(n=1)
    reading = store.read(RUN)
    chain.note(n=2)
    assert [record.seq for record in reading] == [0, 1]


def test_a_long_chain_is_read_whole(store, writer, draft):
    chain = writer(store, RUN)
    chain.append(*(draft(n=n) for n in range(400)))
    assert [record.seq for record in store.read(RUN)] == list(range(401))


def test_an_append_at_a_head_that_is_not_the_end_is_refused(store, writer, draft):
    chain = writer(store, RUN)
    old = chain.head
    chain.note(n=1)
    before = list(store.lines(RUN))
    with pytest.raises(JournalDamaged, match=r"ends at record 1 .* expected record 0"):
        store.append(chain.lease, old, [draft(n=2)])
    with pytest.raises(JournalDamaged, match="expected record 1 \\(ffff"):
        store.append(chain.lease, Head(1, "f" * 64), [draft(n=2)])
    assert list(store.lines(RUN)) == before


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"f": 1.5}, "float has no canonical form"),
        ({"f": "\ud800"}, "surrogates not allowed"),
        ({"f": "x" * (1 << 20)}, "longer than 1048576 bytes"),
        ({1: 2}, "key 1 is not a string"),
    ],
)
def test_a_draft_that_cannot_be_written_takes_none_of_its_batch_in(
    store, writer, draft, body, reason
):
    chain = writer(store, RUN)
    good, bad = draft(n=1), draft()
    object.__setattr__(bad, "body", body)
    with pytest.raises(JournalError, match=reason):
        chain.append(good, bad)
    assert store.head(RUN).seq == 0
    assert chain.note(n=2).seq == 1


def test_a_second_creation_is_not_a_record(store, writer, draft):
    chain = writer(store, RUN)
    with pytest.raises(JournalError, match=r"run\.created does not belong there"):
        chain.append(draft(RecordType.RUN_CREATED))
    assert store.head(RUN).seq == 0


def test_an_empty_append_changes_nothing(store, writer):
    chain = writer(store, RUN)
    assert list(store.append(chain.lease, chain.head, [])) == []
    assert store.head(RUN) == chain.head


# damage


@pytest.fixture
def damaged_chain(host, store, writer):
    chain = writer(store, RUN)
    for n in range(4):
        chain.note(n=n)
    chain.release()
    return host, store, list(store.lines(RUN))


def test_a_changed_record_is_refused_by_number_and_stays(damaged_chain):
    host, store, lines = damaged_chain
    host.damage(RUN, 2, lines[2].replace(b'"n":1', b'"n":7'))
    with pytest.raises(JournalDamaged, match="record 3: prev is"):
        list(store.read(RUN))
    assert list(store.lines(RUN))[2] != lines[2]


def test_a_changed_last_record_is_refused_to_readers_and_writers(damaged_chain, draft):
    host, store, lines = damaged_chain
    head = store.head(RUN)
    host.damage(RUN, 4, lines[4].replace(b'"n":3', b'"n":7'))
    with pytest.raises(JournalDamaged, match="record 4: is not the record that the store has"):
        list(store.read(RUN))
    with pytest.raises(JournalDamaged, match="record 4"):
        store.head(RUN)
    lease = store.acquire(RUN, "x")
    with pytest.raises(JournalDamaged, match="record 4"):
        store.append(lease, head, [draft()])
    assert len(list(store.lines(RUN))) == len(lines)


@pytest.mark.parametrize("is_new", [False, True], ids=["same lease", "new lease"])
@pytest.mark.parametrize("line", [b"", b"{}\n", None])
def test_a_last_line_that_is_another_now_is_noticed_by_the_next_append(
    host, store, writer, draft, line, is_new
):
    chain = writer(store, RUN)
    chain.note(n=1)
    lease = chain.lease
    if is_new:
        chain.release()
        lease = store.acquire(RUN, "x")
    host.damage(RUN, 1, line)
    with pytest.raises(JournalDamaged, match="record 1"):
        store.append(lease, chain.head, [draft()])
    assert len(list(store.lines(RUN))) == (1 if line is None else 2)


def test_a_missing_record_is_refused(damaged_chain):
    host, store, _ = damaged_chain
    host.damage(RUN, 2, None)
    with pytest.raises(JournalDamaged, match="record 2: it says it is record 3"):
        list(store.read(RUN))


def test_a_missing_tail_is_refused_because_the_store_keeps_the_head(damaged_chain, draft):
    host, store, _ = damaged_chain
    head = store.head(RUN)
    host.damage(RUN, 4, None)
    with pytest.raises(JournalDamaged, match="record 4: is missing"):
        list(store.read(RUN))
    lease = store.acquire(RUN, "x")
    with pytest.raises(JournalDamaged, match="record 4"):
        store.append(lease, head, [draft()])


def test_a_swapped_pair_is_refused(damaged_chain):
    host, store, lines = damaged_chain
    host.damage(RUN, 1, lines[2])
    host.damage(RUN, 2, lines[1])
    with pytest.raises(JournalDamaged, match="record 1: it says it is record 2"):
        list(store.read(RUN))


def test_a_record_of_another_run_is_refused(damaged_chain, writer):
    host, store, _ = damaged_chain
    other = writer(store, OTHER)
    for n in range(4):
        other.note(n=n)
    host.damage(RUN, 2, list(store.lines(OTHER))[2])
    with pytest.raises(JournalDamaged, match="record 2: it belongs to run 'r-ba9876543210'"):
        list(store.read(RUN))


# leases


def test_only_one_process_holds_a_run_and_the_refusal_names_it(host, writer):
    first, second = host.open(), host.open()
    writer(first, RUN)
    with pytest.raises(Locked, match="held by a living process: the test") as refused:
        second.acquire(RUN, "another")
    assert refused.value.hint == f"drengine status {RUN}"
    assert "the test" in second.living_owner(RUN)


def test_a_process_that_holds_a_run_cannot_take_it_twice(store, writer):
    chain = writer(store, RUN)
    with pytest.raises(Locked):
        store.acquire(RUN, "again")
    assert chain.note().seq == 1


def test_tokens_increase_with_every_acquisition(host, writer):
    tokens = []
    for _ in range(3):
        store = host.open()
        chain = writer(store, RUN)
        tokens.append(chain.lease.token)
        chain.release()
    assert tokens == sorted(set(tokens))


def test_a_released_run_has_no_owner_and_can_be_taken(host, writer):
    first, second = host.open(), host.open()
    chain = writer(first, RUN)
    chain.release()
    chain.release()
    assert second.living_owner(RUN) is None
    second.acquire(RUN, "another")


def test_releasing_an_old_lease_does_not_give_a_new_one_back(host, writer):
    first, second = host.open(), host.open()
    old = writer(first, RUN)
    old.release()
    new = writer(first, RUN)
    first.release(old.lease)
    with pytest.raises(Locked):
        second.acquire(RUN, "another")
    assert new.note().seq == 1


def test_a_closed_store_holds_nothing(host, writer):
    first, second = host.open(), host.open()
    writer(first, RUN)
    first.close()
    assert second.acquire(RUN, "another").owner == "another"


def test_a_lease_that_was_given_back_appends_nothing(store, writer):
    chain = writer(store, RUN)
    chain.release()
    with pytest.raises(Fenced, match="given back"):
        chain.note()
    assert store.head(RUN).seq == 0


def test_an_owner_that_was_overtaken_is_fenced_everywhere(host, writer):
    first, second = host.open(), host.open()
    old = writer(first, RUN)
    old.note(by="old")
    host.lose_locks()
    new = writer(second, RUN)
    first.put_signal(signal("s-1"))
    for refused in (
        lambda: old.note(by="old again"),
        lambda: first.check_lease(old.lease),
        lambda: first.set_status(old.lease, "running", None),
        lambda: first.delete_signals(old.lease, ["s-1"]),
    ):
        with pytest.raises(Fenced, match="took the run over"):
            refused()
    new.note(by="new")
    assert [record.body.get("by") for record in second.read(RUN)] == [None, "old", "new"]
    assert [row.status for row in second.runs()] == ["created"]
    assert len(second.peek_signals(RUN)) == 1


def test_a_child_has_a_lock_of_its_own(host, writer):
    first, second = host.open(), host.open()
    writer(first, RUN)
    child = writer(second, CHILD)
    assert child.note().run == CHILD


# listing


def test_runs_are_listed_newest_first_with_children_behind_their_parents(store, writer):
    writer(store, RUN)
    writer(store, OTHER)
    writer(store, "r-0123456789ab/b")
    writer(store, "r-0123456789ab/a")
    chain = writer(store, "r-0123456789ab/a/deep")
    chain.note()
    rows = store.runs()
    assert [row.run for row in rows] == [
        OTHER,
        RUN,
        "r-0123456789ab/a",
        "r-0123456789ab/a/deep",
        "r-0123456789ab/b",
    ]
    assert rows[3].head == chain.head
    assert (rows[1].title, rows[1].run_class) == (f"title of {RUN}", "drill")


def test_the_status_is_a_hint_that_touches_no_record(store, writer):
    chain = writer(store, RUN)
    store.set_status(chain.lease, "waiting", 1234)
    (row,) = store.runs()
    assert (row.status, row.wake_at_ms, row.head) == ("waiting", 1234, chain.head)
    store.set_status(chain.lease, "running", None)
    assert store.runs()[0].wake_at_ms is None


# signals


def test_signals_are_kept_in_order_of_arrival_until_they_are_deleted(host, writer):
    first, second = host.open(), host.open()
    chain = writer(first, RUN)
    for id_ in ("s-2", "s-1", "s-3"):
        second.put_signal(signal(id_))
    assert [each.id for each in first.peek_signals(RUN)] == ["s-2", "s-1", "s-3"]
    first.delete_signals(chain.lease, ["s-1", "unknown"])
    assert list(first.peek_signals(RUN)) == [signal("s-2"), signal("s-3")]
    assert first.head(RUN) == chain.head


def test_the_same_signal_again_changes_nothing(store, writer):
    writer(store, RUN)
    store.put_signal(signal("s-1"))
    store.put_signal(signal("s-1", kind="reject"))
    assert list(store.peek_signals(RUN)) == [signal("s-1")]


def test_signals_of_one_run_are_not_those_of_another(store, writer):
    writer(store, RUN)
    chain = writer(store, OTHER)
    store.put_signal(signal("s-1"))
    store.put_signal(signal("s-1", OTHER))
    store.delete_signals(chain.lease, ["s-1"])
    assert list(store.peek_signals(RUN)) == [signal("s-1")]
    assert list(store.peek_signals(OTHER)) == []


def test_a_signal_to_a_run_that_is_not_there_is_refused(store):
    with pytest.raises(JournalError, match="there is no run"):
        store.put_signal(signal("s-1"))
    assert list(store.peek_signals(RUN)) == []


def test_a_child_may_be_sent_a_signal_before_it_is_created(store, writer):
    writer(store, RUN)
    store.put_signal(signal("s-1", CHILD, kind="cancel"))
    assert [each.id for each in store.peek_signals(CHILD)] == ["s-1"]
    child = writer(store, CHILD)
    assert list(store.peek_signals(CHILD)) == [signal("s-1", CHILD, kind="cancel")]
    store.delete_signals(child.lease, ["s-1"])
    assert list(store.peek_signals(CHILD)) == []


def test_a_signal_to_a_child_of_a_run_that_is_not_there_is_refused(store):
    with pytest.raises(JournalError, match=f"there is no run {RUN} "):
        store.put_signal(signal("s-1", CHILD))


def nested(levels: int) -> dict:
    body: dict = {}
    for _ in range(levels):
        body = {"a": body}
    return body


def fill(size: int) -> dict:
    """A body of that many bytes."""
    return {"reason": "x" * (size - len(canonical({"reason": ""})))}


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"body": fill(MAX_SIGNAL_BYTES + 1)}, f"at most {MAX_SIGNAL_BYTES} are taken"),
        ({"body": nested(33)}, "nested deeper"),
        ({"body": nested(100_000)}, "nested deeper"),
        ({"body": {"n": 1.5}}, "float has no canonical form"),
        ({"body": {"reason": "\ud800"}}, "surrogates"),
        ({"actor": "approver:\ud800"}, "surrogates"),
        ({"actor": ""}, "have 1 to 512 characters"),
        ({"actor": "approver:" + "x" * 512}, "have 1 to 512 characters"),
        ({"id": "x" * 513}, "have 1 to 512 characters"),
        ({"kind": "x" * 513}, "have 1 to 512 characters"),
    ],
)
def test_a_signal_that_no_record_can_hold_is_refused_at_the_door(store, writer, odd, why):
    writer(store, RUN)
    with pytest.raises(InputError, match=f"{why}.*nothing was handed in"):
        store.put_signal(replace(signal("s-1"), **odd))
    assert list(store.peek_signals(RUN)) == []


@pytest.mark.parametrize("body", [fill(MAX_SIGNAL_BYTES), nested(32)])
def test_what_the_door_just_takes_fits_into_a_record_that_quotes_it(store, writer, draft, body):
    chain = writer(store, RUN)
    store.put_signal(replace(signal("s-1"), body=body))
    (taken,) = store.peek_signals(RUN)
    said = {"ignored": "reject", "why": "", "said": taken.body}
    (record,) = chain.append(draft(**said, error={"message": str(taken.body.get("reason"))}))
    assert record.body["said"] == body
    assert list(store.read(RUN))[-1] == record


# claims

HSM = "/subscriptions/s/managedhsms/east"
GROUP = "/subscriptions/s/failovergroups/g1"
THIRD = "/subscriptions/s/failovergroups/g2"


def test_a_claimed_target_is_refused_to_another_run_naming_both(host, writer):
    first, second = host.open(), host.open()
    writer(first, RUN)
    first.claim(RUN, [HSM])
    with pytest.raises(Locked, match=f"run {OTHER} needs {HSM}, but run {RUN} holds it") as refused:
        second.claim(OTHER, [HSM.upper()])
    assert f"drengine cancel {RUN} --reason TEXT" in refused.value.hint


def test_a_claim_takes_all_targets_or_none(store, writer):
    writer(store, RUN)
    store.claim(RUN, [HSM])
    with pytest.raises(Locked):
        store.claim(OTHER, [GROUP, HSM, THIRD])
    store.claim(RunId("r-cccccccccccc"), [GROUP, THIRD])


def test_a_run_and_its_family_claim_the_same_target(store, writer):
    sibling = RunId(f"{RUN}/mi-2")
    writer(store, RUN)
    for run in (RUN, RUN, CHILD, sibling):
        store.claim(run, [HSM])
    store.release_claims(CHILD)
    with pytest.raises(Locked, match=f"run {RUN} holds"):
        store.claim(OTHER, [HSM])


def test_releasing_the_claims_of_a_run_releases_those_of_its_children_only(store, writer):
    lookalike = RunId("r-0123456789ab0")
    for run in (RUN, lookalike):
        writer(store, run)
    store.claim(RUN, [HSM])
    store.claim(CHILD, [GROUP])
    store.claim(lookalike, [THIRD])
    store.release_claims(RUN)
    store.claim(OTHER, [HSM, GROUP])
    with pytest.raises(Locked, match=lookalike):
        store.claim(OTHER, [THIRD])


@pytest.mark.parametrize("end", [RecordType.RUN_FINISHED, RecordType.RUN_CANCELLED])
@pytest.mark.parametrize("holder", [RUN, CHILD])
def test_a_run_that_ended_without_releasing_blocks_nobody(store, writer, draft, end, holder):
    chain = writer(store, RUN)
    store.claim(holder, [HSM])
    with pytest.raises(Locked):
        store.claim(OTHER, [HSM])
    chain.append(draft(end))
    store.claim(OTHER, [HSM])


@pytest.mark.parametrize("holder", [RUN, CHILD])
def test_the_claim_of_a_run_whose_process_died_before_record_0_blocks_nobody(
    host, writer, draft, holder
):
    host.open().claim(holder, [HSM])
    store = host.open()
    store.claim(OTHER, [HSM])
    writer(store, OTHER)
    with pytest.raises(Locked, match=f"run {OTHER} holds it"):
        store.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED), [HSM])
    assert not store.exists(RUN), "a run that could not have its target was not begun"


def test_a_run_is_created_together_with_its_claims_or_not_at_all(host, draft):
    first, second = host.open(), host.open()
    first.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED), [HSM])
    with pytest.raises(Locked, match=f"run {RUN} holds it; nothing was claimed"):
        second.create(OTHER, "a title", "drill", draft(RecordType.RUN_CREATED), [GROUP, HSM])
    assert not second.exists(OTHER)
    third = RunId("r-cccccccccccc")
    second.create(third, "a title", "drill", draft(RecordType.RUN_CREATED), [GROUP])
    with pytest.raises(Locked, match=f"run {third} holds it"):
        first.claim(RUN, [GROUP])


# objects and documents


def test_an_object_is_kept_by_its_digest(host):
    first, second = host.open(), host.open()
    sha256 = first.put_object(b"a response")
    assert sha256 == sha256_hex(b"a response")
    assert first.put_object(b"a response") == sha256
    assert second.get_object(sha256) == b"a response"
    assert second.has_object(sha256)
    assert first.get_object(first.put_object(b"")) == b""


@pytest.mark.parametrize("name", ["0" * 64, "", "../../drengine.db", "A" * 64])
def test_an_object_that_is_not_here_is_damage(store, name):
    assert not store.has_object(name)
    with pytest.raises(JournalDamaged):
        store.get_object(name)


def test_an_object_with_other_bytes_is_damage_and_is_not_replaced(host, store):
    sha256 = store.put_object(b"a response")
    host.spoil_object(sha256, b"another!!!")
    with pytest.raises(JournalDamaged, match="its bytes have the digest"):
        store.get_object(sha256)
    with pytest.raises(JournalDamaged, match="its bytes have the digest"):
        store.put_object(b"a response")


def test_a_document_is_written_once(host):
    first, second = host.open(), host.open()
    first.put_document(RUN, "plan", {"b": [1, 2], "a": {"x": None}})
    first.put_document(RUN, "plan", {"a": {"x": None}, "b": (1, 2)})
    with pytest.raises(JournalError, match="other content"):
        first.put_document(RUN, "plan", {"b": [1, 3], "a": {}})
    assert second.get_document(RUN, "plan") == {"a": {"x": None}, "b": [1, 2]}
    second.put_document(RUN, "inventory", {})
    assert list(first.documents(RUN)) == ["inventory", "plan"]
    assert list(first.documents(OTHER)) == []


def test_a_document_that_is_not_here_is_damage(store):
    with pytest.raises(JournalDamaged, match="document 'plan': is not here"):
        store.get_document(RUN, "plan")
