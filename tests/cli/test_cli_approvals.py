"""Signed decisions on a gate as people make them: on the command line, and judged by the engine."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import subprocess
import time
from base64 import b64decode, b64encode

import pytest
from gated import Place, Token

from drengine.journal.sqlite import SqliteStore
from drengine.model.records import RecordType as R
from drengine.trust.dsse import pae
from drengine.trust.register import read_trust

OFFICER = "security-officer"
AWAY = ("--role", OFFICER, "--reason", "checked by hand")


def shell(*arguments, **more):
    return subprocess.run(
        [str(each) for each in arguments], capture_output=True, text=True, check=True, **more
    )


@pytest.fixture
def keys(command, tmp_path, monkeypatch):
    """A folder of key files and a trust folder, made with the commands."""
    monkeypatch.setenv("PASS", "correct horse battery")
    for name, roles in (("ada", [OFFICER]), ("bruno", [OFFICER]), ("carl", ["janitor"])):
        key = tmp_path / f"{name}.key"
        assert command("key", "init", key, "--passphrase", "env:PASS").code == 0
        trust(command, tmp_path, name, key.with_suffix(".pub.pem"), roles)
    return tmp_path


def trust(command, folder, name, public, roles=(OFFICER,), *more):
    given = [part for role in roles for part in ("--role", role)]
    ended = command("key", "trust", folder / "trust", name, "--public", public, *given, *more)
    assert ended.code == 0, ended.err


@pytest.fixture
def open_gate(home, tmp_path):
    """Open a run of an incident at a gate for two security officers."""
    places = []

    def begin(**options):
        now = time.time_ns() // 1_000_000
        register = read_trust(tmp_path / "trust").register
        place = Place(store=SqliteStore(home), register=register, now=now, **options)
        place.store.put_document(place.chain.run, "approvers", register.to_json())
        places.append(place)
        return place

    yield begin
    for place in places:
        place.store.close()


def by(keys, name):
    return ("--as", name, "--key", keys / f"{name}.key", "--passphrase", "env:PASS")


def assert_not_sent(place, ended, word):
    assert (ended.code, word in ended.err, "nothing was sent" in ended.err) == (8, True, True)
    assert list(place.store.peek_signals(place.chain.run)) == []


def assert_refused(place, *words):
    record = place.absorb()
    assert record.type is R.NOTE, record.body
    assert all(word in record.body["why"] for word in words), record.body["why"]


def assert_not_counted(ended, word):
    """What will not count is handed in, as no success."""
    assert (ended.code, "✓" in ended.out) == (8, False), ended.out
    assert "⚠ it will not count: " in ended.err
    assert word in ended.err
    assert "handed in all the same" in ended.out


def test_a_key_is_shown_with_the_id_that_openssl_computes(keys, command):
    shown = command("key", "show", keys / "ada.key", "-o", "json").document
    public = keys / "ada.pub.pem"
    der = subprocess.check_output(["openssl", "pkey", "-pubin", "-in", public, "-outform", "DER"])
    assert shown["keyid"] == hashlib.sha256(der).hexdigest()
    assert "PRIVATE" not in json.dumps(shown)
    assert "ENCRYPTED PRIVATE KEY" in (keys / "ada.key").read_text()
    assert command("key", "show", public).out == command("key", "show", keys / "ada.key").out


def test_a_wrong_passphrase_and_a_missing_key_send_nothing(keys, command, open_gate, monkeypatch):
    place = open_gate()
    monkeypatch.setenv("PASS", "battery staple horse")
    wrong = command("approve", "--yes", "@latest", "agree", *by(keys, "ada"), *AWAY)
    assert (wrong.code, "passphrase is wrong" in wrong.err) == (3, True)
    gone = command("approve", "--yes", "@latest", "agree", *by(keys, "nobody"), *AWAY)
    assert (gone.code, "nobody.key" in gone.err) == (3, True)
    assert list(place.store.peek_signals(place.chain.run)) == []


def test_nobody_is_asked_for_a_passphrase_before_the_role_fits(
    keys, command, open_gate, monkeypatch
):
    place = open_gate()
    monkeypatch.delenv("PASS")
    as_janitor = ("--as", "ada", "--role", "janitor")
    secret = ("--key", keys / "ada.key", "--passphrase", "env:PASS")
    wrong = command("approve", "--yes", "@latest", "agree", *as_janitor, *secret)
    assert_not_sent(place, wrong, f"asks for {OFFICER}")
    assert "PASS" not in wrong.err
    missing = command("approve", "--yes", "@latest", "agree", *by(keys, "ada"), *AWAY)
    assert "PASS" in missing.err


def test_two_officers_open_the_gate_and_one_of_them_twice_does_not(keys, command, open_gate):
    place = open_gate()
    for _ in range(2):
        assert command("approve", "--yes", "@latest", "agree", *by(keys, "ada"), *AWAY).code == 0
        place.absorb()
    assert place.gate.approvers == ("approver:ada",)
    assert command("approve", "--yes", "@latest", "agree", *by(keys, "bruno"), *AWAY).code == 0
    assert place.absorb().type is R.GATE_APPROVED
    assert place.gate.suffices(2)


def test_a_decision_without_a_key_is_refused_where_signatures_count(keys, command, open_gate):
    place = open_gate()
    ended = command("approve", "--yes", "@latest", "agree", "--as", "ada", *AWAY)
    assert (ended.code, "signed decisions only" in ended.err) == (8, True), ended.err
    assert list(place.store.peek_signals(place.chain.run)) == []
    del keys


def test_who_started_the_run_and_who_lacks_the_role_do_not_count(keys, command, open_gate):
    account = ("--account", "ines")
    command("key", "init", keys / "dora.key", "--passphrase", "env:PASS")
    trust(command, keys, "dora", keys / "dora.pub.pem", [OFFICER], *account)
    place = open_gate()
    own = command("approve", "--yes", "@latest", "agree", *by(keys, "dora"), *AWAY)
    assert_not_sent(place, own, "started the run")
    asked = command("approve", "--yes", "@latest", "agree", *by(keys, "carl"), "--role", "janitor")
    assert (asked.code, f"asks for {OFFICER}" in asked.err) == (8, True)
    other = command("approve", "--yes", "@latest", "agree", *by(keys, "carl"), *AWAY)
    assert_not_sent(place, other, "does not hold the role")
    assert "drengine cancel" in other.err


def test_a_decision_that_did_not_count_is_told_with_its_reason_until_one_does(keys, command, away):
    place, signed, _ = away(*by(keys, "carl"), *AWAY)
    asked = command("status").out
    assert f"agree --as NAME --role {OFFICER} --key FILE" in asked
    assert "did not count" not in asked
    command("approval", "import", signed)
    place.absorb()
    shown = command("status").out
    assert "⚠ agree: approve of approver:carl did not count: carl does not hold" in shown
    command("approve", "--yes", "@latest", "agree", *by(keys, "ada"), *AWAY)
    place.absorb()
    assert "did not count" not in command("status").out


def test_the_wrong_half_of_a_key_is_not_entered_and_a_role_is_shown(keys, command):
    wrong = command("key", "trust", keys / "trust", "ada", "--public", keys / "ada.key")
    assert (wrong.code, "private key" in wrong.err) == (3, True)
    assert str(keys / "ada.pub.pem") in wrong.err
    gone = command("key", "trust", keys / "trust", "ada", "--public", keys / "ada.pub")
    assert (gone.code, "Next: " in gone.err) == (3, True)
    told = ("--public", keys / "ada.pub.pem", "--role", "incident-comander")
    slip = command("key", "trust", keys / "trust", "ada", *told)
    assert "Roles   incident-comander" in slip.out
    assert "No shipped runbook asks for the role 'incident-comander'" in slip.err
    assert "incident-commander" in slip.err
    mended = ("--role", "incident-commander", "--drop-role", "incident-comander")
    ended = command("key", "trust", keys / "trust", "ada", *told[:2], *mended)
    assert (ended.code, ended.err) == (0, "")
    assert "incident-comander" not in ended.out


def test_a_name_that_is_not_the_keys_own_does_not_count(keys, command, open_gate):
    place = open_gate()
    mixed = ("--as", "bruno", *by(keys, "ada")[2:])
    assert_not_sent(place, command("approve", "--yes", "@latest", "agree", *mixed, *AWAY), "ada")


def test_a_refusal_stops_the_gate_and_stays_signed(keys, command, open_gate):
    place = open_gate()
    told = ("--role", OFFICER, "--reason", "wrong backup")
    assert command("reject", "--yes", "@latest", "agree", *by(keys, "ada"), *told).code == 0
    record = place.absorb()
    assert record.type is R.GATE_REJECTED
    assert record.body["envelope"]["signatures"]
    assert "wrong backup" in record.body["error"]["message"]


def test_an_approval_is_withdrawn_until_it_is_used(keys, command, open_gate):
    place = open_gate()
    command("approve", "--yes", "@latest", "agree", *by(keys, "ada"), *AWAY)
    place.absorb()
    told = ("--reason", "second thoughts")
    other = command("approval", "withdraw", "@latest", "agree", *by(keys, "bruno"), *told)
    assert_not_sent(place, other, "approver:bruno did not approve what gate agree")
    assert "approver:ada did" in other.err
    assert command("approval", "withdraw", "@latest", "agree", *by(keys, "ada"), *told).code == 0
    assert place.absorb().type is R.GATE_VOIDED


def test_a_withdrawal_with_anothers_key_is_not_sent(keys, command, open_gate):
    place = open_gate()
    command("approve", "--yes", "@latest", "agree", *by(keys, "ada"), *AWAY)
    place.absorb()
    told = ("approval", "withdraw", "@latest", "agree", "--as", "ada", "--reason", "oh")
    with_brunos = command(*told, *by(keys, "bruno")[2:])
    assert_not_sent(place, with_brunos, "would not count: it names 'ada', but the key is bruno's")
    assert "Next: Use the key and the role" in with_brunos.err
    command("key", "init", keys / "eve.key", "--passphrase", "env:PASS")
    with_a_strangers = command(*told, *by(keys, "eve")[2:])
    assert_not_sent(place, with_a_strangers, "would not count: ")
    assert_not_sent(place, command(*told), "signed decisions only")


def test_an_approval_that_is_not_taken_in_yet_is_withdrawn_once(keys, command, open_gate):
    place = open_gate()
    command("approve", "--yes", "@latest", "agree", *by(keys, "ada"), *AWAY)
    told = ("approval", "withdraw", "@latest", "agree", "--reason", "oh")
    assert "did not approve" in command(*told, *by(keys, "bruno")).err
    assert command(*told, *by(keys, "ada")).code == 0
    again = command(*told, *by(keys, "ada"))
    assert (again.code, "by approver:ada is handed in already" in again.err) == (8, True)
    assert place.absorb().type is R.GATE_VOIDED
    assert place.gate is None


def test_no_approval_of_a_run_that_is_over_is_withdrawn(command, story):
    run, step = "r-0123456789ab", {"step": "declare"}
    told = story().plans().asks()
    assert command("approve", "--yes", run, "declare", "--as", "ada").code == 0
    (given,) = told.signals()
    approved = {"request_seq": 1, "digest": "d" * 64, "signal": given.id}
    told.tell((R.GATE_APPROVED, {**step, **approved}), (R.RUN_CANCELLED, {"reason": "over"}))
    ended = command("approval", "withdraw", run, "declare", "--as", "ada", "--reason", "oh")
    assert (ended.code, f"run {run} is cancelled" in ended.err) == (3, True)
    assert "nothing was sent" in ended.err
    assert told.signals() == [given]


def test_a_withdrawal_where_the_plan_cannot_be_read_is_not_sent(command, story):
    told = story().asks()
    assert command("approve", "--yes", "@latest", "declare", "--as", "ada").code == 0
    told.store.put_document(told.run, "plan", {"schema": "drengine/plan/v2"})
    ended = command("approval", "withdraw", "@latest", "declare", "--as", "ada", "--reason", "oh")
    assert (ended.code, "this version cannot read the plan" in ended.err) == (3, True), ended.err
    assert len(told.signals()) == 1


def test_a_withdrawal_that_comes_too_late_is_not_sent(keys, command, open_gate):
    place = open_gate()
    withdraw = ("approval", "withdraw", "@latest", "agree", *by(keys, "ada"), "--reason", "oh")
    early = command(*withdraw)
    assert early.code == 3
    assert "has no approval to take back; nothing was sent" in early.err
    for person in ("ada", "bruno"):
        command("approve", "--yes", "@latest", "agree", *by(keys, person), *AWAY)
        place.absorb()
    place.chain.append(R.STEP_SUCCEEDED, {"step": "agree", "outputs": {}})
    place.chain.append(R.STEP_BEGUN, {"step": "look", "attempt": 1, "generation": 0})
    place.chain.append(R.GUARDS_HELD, {"step": "look", "findings": []})
    place.chain.append(R.INTENT, {"step": "look"})
    late = command(*withdraw)
    assert late.code == 3
    assert "too late to withdraw: look of" in late.err
    assert "Next: drengine pause" in late.err
    assert list(place.store.peek_signals(place.chain.run)) == []


def test_an_approval_that_came_too_late_has_expired(keys, command, open_gate):
    place = open_gate()
    command("approve", "--yes", "@latest", "agree", *by(keys, "ada"), *AWAY, "--valid", "5m")
    place.clock.now += 6 * 60_000
    assert_refused(place, "expired at")


def test_a_revoked_key_does_not_count(keys, command, open_gate):
    command("key", "init", keys / "erik.key", "--passphrase", "env:PASS")
    since = ("--revoked", "2026-01-01T00:00:00.000Z")
    trust(command, keys, "erik", keys / "erik.pub.pem", [OFFICER], *since)
    place = open_gate()
    ended = command("approve", "--yes", "@latest", "agree", *by(keys, "erik"), *AWAY)
    assert_not_sent(place, ended, "was revoked at")


def test_breaking_the_glass_counts_where_the_runbook_allows_it(keys, command, open_gate):
    place = open_gate(break_glass=True)
    glass = (*by(keys, "carl"), "--break-glass")
    bare = command("approve", "--yes", "@latest", "agree", *glass)
    assert (bare.code, "a reason" in bare.err) == (8, True)
    ended = command(
        "approve", "--yes", "@latest", "agree", *glass, "--reason", "both officers are dead"
    )
    assert ended.code == 0, ended.err
    record = place.absorb()
    assert (record.type, record.body["break_glass"]) == (R.GATE_APPROVED, True)
    assert place.gate.suffices(2)


def test_the_glass_is_not_broken_where_the_runbook_does_not_say_so(keys, command, open_gate):
    open_gate()
    glass = (*by(keys, "carl"), "--break-glass", "--reason", "hurry")
    ended = command("approve", "--yes", "@latest", "agree", *glass)
    assert (ended.code, "a runbook that allows it" in ended.err) == (8, True)


# away from the run: a file, a key, and nothing else


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Be on another machine: another home, and no network whatever."""

    def no_socket(*_arguments, **_options):
        raise AssertionError("a socket was made")

    def go(name="elsewhere"):
        monkeypatch.setenv("DRENGINE_HOME", str(tmp_path / name))
        monkeypatch.setattr(socket, "socket", no_socket)

    return go


@pytest.fixture
def away(keys, command, open_gate, elsewhere, home, monkeypatch):
    """Sign a request of a fresh gate elsewhere and come back; return the place and the file."""

    def sign(*options, change=lambda text: text, code=0, **gate):
        place = open_gate(**gate)
        request, signed = keys / "request.json", keys / "signed.json"
        assert command("approval", "request", "@latest", "agree", "--out", request).code == 0
        request.write_text(change(request.read_text()))
        elsewhere()
        ended = command("approval", "sign", request, *options, "--out", signed)
        assert ended.code == code, ended.err
        assert not (keys / "elsewhere").exists(), "signing made a home"
        monkeypatch.setenv("DRENGINE_HOME", str(home))
        return place, signed, ended

    return sign


def test_a_decision_is_signed_elsewhere_and_brought_back(keys, command, away):
    place, signed, shown = away(*by(keys, "ada"), *AWAY)
    assert "INCIDENT" in shown.err
    assert 'hsm:\n    "gone"' in shown.err
    assert "2 of security-officer" in shown.err
    for told in ("✓", "was handed in before: it moves nothing more"):
        ended = command("approval", "import", signed)
        assert ended.code == 0, ended.err
        assert told in ended.out + ended.err
        place.absorb()
    assert place.gate.approvers == ("approver:ada",)


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("carl", (), "does not hold the role"),
        ("erik", (), "not in the register of approvers"),
        ("ada", ("--at", "2026-01-01T00:00:00Z", "--valid", "5m"), "it expired at"),
    ],
    ids=["another role", "a stranger", "expired"],
)
def test_a_decision_that_cannot_count_is_handed_in_and_is_no_success(
    keys, command, away, name, options, word
):
    assert command("key", "init", keys / "erik.key", "--passphrase", "env:PASS").code == 0
    place, signed, _ = away(*by(keys, name), *AWAY, *options)
    assert_not_counted(command("approval", "import", signed), word)
    assert_refused(place, word)


def test_json_tells_whether_a_decision_will_count(keys, command, away):
    _, signed, _ = away(*by(keys, "carl"), *AWAY)
    ended = command("approval", "import", signed, "-o", "json")
    assert (ended.code, ended.err) == (8, "")
    assert (ended.document["counts"], ended.document["repeated"]) == (False, False)
    assert "does not hold the role" in ended.document["why"]


def test_a_request_is_no_decision_yet(keys, command, away):
    away(*by(keys, "ada"), *AWAY)
    ended = command("approval", "import", keys / "request.json")
    assert (ended.code, "it is not a signed decision; it is of schema" in ended.err) == (3, True)
    assert f"Next: Sign it first: drengine approval sign {keys / 'request.json'}" in ended.err


def test_every_command_of_the_way_there_and_back_speaks_json(keys, command, open_gate):
    open_gate()
    request, signed = keys / "request.json", keys / "signed.json"
    public, json_ = ("--public", keys / "ada.pub.pem"), ("-o", "json")
    trusted = command("key", "trust", keys / "other", "ada", *public, *json_).document
    told = [
        command("approval", "request", "@latest", "agree", "--out", request, *json_).document,
        command(
            "approval", "sign", request, *by(keys, "ada"), *AWAY, "--out", signed, *json_
        ).document,
        command("approval", "import", signed, *json_).document,
        command(
            "approval", "withdraw", "@latest", "agree", *by(keys, "ada"), "--reason", "x", *json_
        ).document,
    ]
    assert {each["schema"] for each in told} == {"drengine/approval/v1"}
    assert len({each["run"] for each in told}) == 1
    assert told[0]["digest"] == told[1]["digest"]
    assert told[1]["keyid"] == trusted["keyid"]
    assert told[2]["next"].startswith("drengine status")  # the test itself drives the run
    assert told[3]["decision"] == "withdraw"


def test_a_refusal_is_signed_elsewhere_too(keys, command, away):
    place, signed, _ = away(*by(keys, "ada"), *AWAY, "--reject")
    assert command("approval", "import", signed).code == 0
    assert place.absorb().type is R.GATE_REJECTED


def test_a_decision_that_no_record_could_hold_is_not_handed_in(keys, command, away):
    place, signed, _ = away(*by(keys, "carl"), "--role", OFFICER, "--reason", "x" * 500_000)
    ended = command("approval", "import", signed)
    assert (ended.code, "at most 262144 are taken; nothing was handed in" in ended.err) == (3, True)
    assert "in fewer words" in ended.err
    assert list(place.store.peek_signals(place.chain.run)) == []
    assert place.absorb().type is R.GATE_REQUESTED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"hsm": "gone"', '"hsm": "fine"'),
        (r'"digest": "[0-9a-f]', '"digest": "x'),
        (r'"ask": "Shall it be\?"', '"ask": "Shall it be refused?"'),
        (r'"approvals": 2', '"approvals": 1'),
        (r'"step": "agree"', '"step": "look"'),
        (r'"findings": \[\]', '"findings": [1]'),
    ],
)
def test_a_request_that_shows_something_else_is_not_signed(keys, away, old, new):
    def change(text):
        changed = re.sub(old, new, text, count=1)
        assert changed != text
        return changed

    _, signed, ended = away(*by(keys, "ada"), *AWAY, change=change, code=3)
    assert "nothing was signed" in ended.err
    assert not signed.exists()


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (r'"seq": \d+', '"seq": 0', "another request"),
        ('"class": "incident"', '"class": "drill"', "for a drill"),
        (r'"plan": "[0-9a-f]{4}', '"plan": "0000', "another plan"),
    ],
)
def test_a_request_for_another_run_or_record_does_not_count(keys, command, away, old, new, word):
    place, signed, _ = away(*by(keys, "ada"), *AWAY, change=lambda text: re.sub(old, new, text))
    assert_not_counted(command("approval", "import", signed), word)
    assert_refused(place, word)


def test_elsewhere_too_a_decision_must_fit_the_gate(keys, away):
    _, signed, ended = away(*by(keys, "carl"), "--role", "janitor", code=8)
    assert f"asks for {OFFICER}" in ended.err
    assert not signed.exists()


def test_a_file_that_is_no_decision_is_refused(command, keys):
    (keys / "x.json").write_text('{"payload": "e30=", "payload": ""}')
    for file in ("x.json", "gone.json"):
        ended = command("approval", "import", keys / file)
        assert ended.code == 3
        assert file in ended.err


# keys that other programs hold


@pytest.mark.parametrize(("kind", "bits"), [("ed25519", ()), ("ecdsa", ("-b", "256"))])
def test_an_ssh_key_decides_here_and_elsewhere(keys, command, away, kind, bits):
    shell("ssh-keygen", "-q", "-t", kind, *bits, "-N", "", "-f", keys / "id")
    trust(command, keys, "sara", keys / "id.pub")
    shown = command("key", "show", keys / "id.pub", "-o", "json").document
    assert shown["kind"] == "ssh"
    place, signed, _ = away("--as", "sara", "--ssh-key", keys / "id", *AWAY)
    command("approval", "import", signed)
    record = place.absorb()
    assert (record.type, record.actor) == (R.GATE_APPROVED, "approver:sara")
    assert record.body["signer"] == shown["keyid"]
    signature = b64decode(record.body["envelope"]["signatures"][0]["sig"])
    assert signature.startswith(b"-----BEGIN SSH SIGNATURE-----")


@pytest.mark.parametrize("touched", [True, False])
def test_a_security_keys_touch_decides_and_nothing_less(keys, command, away, touched):
    """`ssh-keygen -Y sign` needs the token itself: what it would make is made here."""
    token = Token()
    (keys / "token.pub").write_text(token.public)
    trust(command, keys, "tom", keys / "token.pub")
    keyid = command("key", "show", keys / "token.pub", "-o", "json").document["keyid"]
    place, signed, _ = away(*by(keys, "ada"), *AWAY)
    doc = json.loads(signed.read_text())
    said = b64decode(doc["payload"]).replace(b'"by":"ada"', b'"by":"tom"')
    doc["payload"] = b64encode(said).decode()
    signature = token.sign(pae(doc["payloadType"], said), touched=touched)
    doc["signatures"] = [{"keyid": keyid, "sig": b64encode(signature).decode()}]
    signed.write_text(json.dumps(doc))
    ended = command("approval", "import", signed)
    if touched:
        assert ended.code == 0, ended.err
        record = place.absorb()
        assert (record.type, record.actor) == (R.GATE_APPROVED, "approver:tom")
    else:
        assert_not_counted(ended, "does not verify")
        assert_refused(place, "does not verify")


@pytest.fixture
def cards(keys):
    """Certificates of a test authority, as smart cards hold them, with their keys in files."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

    def named(name):
        return ("-subj", f"/O=Contoso/CN={name}", "-keyout", keys / f"{name}.card")

    shell("openssl", "req", "-x509", *curve, *named("ca"), "-out", keys / "ca.crt", "-days", "2")
    for name in ("rosa", "mallory"):
        request, made = keys / f"{name}.csr", keys / f"{name}.crt"
        shell("openssl", "req", *curve, *named(name), "-out", request)
        issue = ("-CA", keys / "ca.crt", "-CAkey", keys / "ca.card", "-days", "2")
        shell("openssl", "x509", "-req", "-in", request, *issue, "-out", made)
    return keys


def test_a_smart_cards_certificate_decides(cards, command, away):
    trust(command, cards, "rosa", cards / "rosa.crt")
    card = ("--certificate", cards / "rosa.crt", "--certificate-key", cards / "rosa.card")
    place, signed, _ = away("--as", "rosa", *card, *AWAY)
    command("approval", "import", signed)
    record = place.absorb()
    assert (record.type, record.actor) == (R.GATE_APPROVED, "approver:rosa")


def test_another_card_of_the_same_authority_does_not_decide(cards, command, away):
    trust(command, cards, "rosa", cards / "rosa.crt")
    card = ("--certificate", cards / "mallory.crt", "--certificate-key", cards / "mallory.card")
    place, signed, _ = away("--as", "rosa", *card, *AWAY)
    doc = json.loads(signed.read_text())
    doc["signatures"][0]["keyid"] = command(
        "key", "show", cards / "rosa.crt", "-o", "json"
    ).document["keyid"]
    signed.write_text(json.dumps(doc))
    command("approval", "import", signed)
    assert_refused(place, "does not verify")


def test_a_certificate_without_its_key_signs_nothing(cards, away):
    _, signed, ended = away("--as", "rosa", "--certificate", cards / "rosa.crt", code=3)
    assert "--certificate-key" in ended.err
    assert not signed.exists()


# slips of the pen in a trust folder


def listed(folder):
    return {
        each.name: [key.keyid for key in each.keys] for each in read_trust(folder).register.people
    }


def test_a_key_under_the_wrong_name_is_taken_out_and_entered_under_the_right_one(keys, command):
    folder = keys / "trust"
    command("key", "init", keys / "dora.key", "--passphrase", "env:PASS")
    public = ("--public", keys / "dora.pub.pem")
    assert command("key", "trust", folder, "ada", *public).code == 0
    keyid = listed(folder)["ada"][1]
    slip = command("key", "trust", folder, "dora", *public)
    assert (slip.code, "this very key is ada's already" in slip.err) == (3, True)
    assert f"drengine key trust {folder} ada --remove {keyid}" in slip.err
    none = command("key", "trust", folder, "ada", "--remove", "0" * 64)
    assert (none.code, "nothing was changed" in none.err) == (3, True)
    assert command("key", "trust", folder, "ada", "--remove", keyid, *public).code == 2
    assert command("key", "trust", folder, "ada").code == 2
    ended = command("key", "trust", folder, "ada", "--remove", keyid)
    assert (ended.code, "no run of this home knew it" in ended.out) == (0, True), ended.err
    assert not (folder / "approvers" / "ada-2.pem").exists()
    assert command("key", "trust", folder, "dora", *public).code == 0
    assert listed(folder)["dora"] == [keyid]
    assert len(listed(folder)["ada"]) == 1
    assert command("key", "trust", folder, "dora", "--remove", keyid[:12]).code == 0
    assert "dora" not in listed(folder)


def test_a_key_that_takes_the_place_of_one_removed_overwrites_no_other(keys, command):
    folder = keys / "trust"
    before = listed(folder)
    for name in ("x", "y", "z"):
        command("key", "init", keys / f"{name}.key", "--passphrase", "env:PASS")
    trust(command, keys, "ada", keys / "x.pub.pem")
    trust(command, keys, "ada", keys / "y.pub.pem")
    second, third = listed(folder)["ada"][1:]
    assert command("key", "trust", folder, "ada", "--remove", second).code == 0
    trust(command, keys, "ada", keys / "z.pub.pem")
    assert listed(folder)["ada"][:2] == [*before["ada"], third]
    assert len(set(listed(folder)["ada"])) == 3


def test_a_key_that_a_run_knows_is_revoked_and_not_removed(keys, command, open_gate):
    place, folder = open_gate(), keys / "trust"
    keyid = listed(folder)["carl"][0]
    ended = command("key", "trust", folder, "carl", "--remove", keyid)
    assert (ended.code, f"stands in the register of {place.chain.run}" in ended.err) == (8, True)
    assert "--revoked UTC" in ended.err
    assert listed(folder)["carl"] == [keyid]
    since = ("--revoked", "2026-01-01T00:00:00Z")
    told = command("key", "trust", folder, "carl", "--public", keys / "carl.pub.pem", *since)
    assert f"{keyid} is REVOKED: it does not count from 2026-01-01T00:00:00Z on" in told.out
    assert "approves with" not in told.out


def test_a_key_that_cannot_be_made_says_what_to_do(keys, command, monkeypatch):
    there = command("key", "init", keys / "ada.key", "--passphrase", "env:PASS")
    assert (there.code, "Next: Name another file" in there.err) == (3, True)
    monkeypatch.setenv("PASS", "short")
    short = command("key", "init", keys / "new.key", "--passphrase", "env:PASS")
    assert (short.code, "Next: Take five words or more" in short.err) == (3, True)


def test_a_request_is_not_written_over_a_file(keys, command, open_gate):
    open_gate()
    ended = command("approval", "request", "@latest", "agree", "--out", keys / "ada.key")
    assert (ended.code, "exists already; nothing was written" in ended.err) == (3, True)
    assert "Next: Name another file" in ended.err
