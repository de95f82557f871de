"""A whole ceremony, each role a process of its own."""

from __future__ import annotations

import json


def test_two_of_three_custodians_make_a_blob_and_keys_never_meet(opened, domain, exchange, writer):
    made = opened.combine(*opened.shares(1, 3), "-o", "json")
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    blob = (opened.folder / "blob.json").read_bytes()
    assert writer.open_blob(blob, exchange) == domain.parts
    assert report["form"] == "contribute"
    assert report["custodians"] == [domain.people[0].x5t, domain.people[2].x5t]
    assert "existed in the memory of process" in report["sentence"]
    assert opened.running.wait(20) == 0
    assert opened.entries()[-1]["kind"] == "closed"
