"""What a SAS says of itself is judged before anything is sent; its signature stays hidden."""

from __future__ import annotations

import pytest

from drengine.actions.sas import sas_facts, sas_problems
from drengine.model.canonical import canonical
from drengine.model.secret import Secret

NOW = 1_795_000_000_000  # 2026-11-18T11:06:40Z
GOOD = "sv=2021-12-02&sr=c&sp=rcwdl&st=2026-11-18T00:00:00Z&se=2026-11-19T00%3A00%3A00Z&sig=SECRET"


def problems(token: str, rights: str = "crdwl", lasts: int = 3_600_000) -> list[str]:
    return sas_problems(sas_facts(Secret(token)), rights, NOW, lasts)


def test_a_good_token_has_no_problem_with_or_without_a_question_mark():
    assert problems(GOOD) == []
    assert problems(f"?{GOOD}") == []


@pytest.mark.parametrize("covers", ["ss=b&srt=sco", "srt=oc&ss=bfqt"])
def test_a_token_of_the_account_that_covers_containers_and_blobs_will_do(covers):
    assert problems(GOOD.replace("sr=c", covers)) == []


def test_the_signature_is_in_no_fact():
    assert "SECRET" not in repr(sas_facts(Secret(GOOD)))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("sp=rcwdl", "sp=rl", "lacks cdw"),
        ("sp=rcwdl", "sp=", "grants nothing"),
        ("se=2026-11-19", "se=2026-11-17", "expired at 2026-11-17"),
        ("se=2026-11-19T00%3A00%3A00Z", "se=2026-11-18T11:30:00Z", "before the recovery"),
        ("se=2026-11-19T00%3A00%3A00Z", "se=soon", "expiry cannot be read"),
        ("st=2026-11-18", "st=2026-11-20", "not valid before"),
        ("&sig=SECRET", "", "no signature"),
        ("sr=c", "sr=b", "it is for one blob (sr=b), and not for the container"),
        ("sr=c", "sr=d&sdd=1", "one directory (sr=d)"),
        ("sr=c", "sr=bs", "one snapshot of a blob (sr=bs)"),
        ("sr=c", "sr=zz", "something else (sr=zz)"),
        ("&sr=c", "", "does not say what it is for"),
        ("sr=c", "sr=", "does not say what it is for"),
        ("sr=c", "ss=b&srt=o", "lacks containers"),
        ("sr=c", "ss=b&srt=sc", "lacks objects"),
        ("sr=c", "ss=b&srt=", "srt=nothing, and lacks containers and objects"),
        ("sr=c", "ss=fq&srt=sco", "services fq, and not for blobs"),
        ("sr=c", "srt=sco", "services nothing, and not for blobs"),
    ],
)
def test_each_defect_is_named(old, new, says):
    assert any(says in problem for problem in problems(GOOD.replace(old, new)))


@pytest.mark.parametrize("text", ["", "garbage", "a=b", "https://x/y?sp=r", "\x00"])
def test_whatever_is_no_sas_is_refused_without_a_crash(text):
    assert problems(text)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59"])
def test_an_expiry_beyond_the_calendar_cannot_be_read(time):
    found = problems(GOOD.replace("2026-11-19T00%3A00%3A00Z", time))
    assert found == ["its expiry cannot be read"]


def test_facts_hold_letters_only_so_that_they_can_stand_in_a_record():
    facts = sas_facts(Secret("sp=r\udc80w&sr=c\udcff&sig=x&se=2026-11-19"))
    assert (facts["rights"], facts["resource"]) == ("rw", "c")
    canonical(facts)
