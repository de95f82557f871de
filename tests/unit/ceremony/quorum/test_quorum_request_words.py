"""`drengine request` names both ways to a blob: keys apart first, then keys in one place."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from drengine.cli import deliveries
from drengine.model.ids import RunId
from drengine.model.run import RunClass

RUN = RunId("r-000000000001")


@pytest.fixture
def waiting(monkeypatch, exchange):
    """A run that waits for a restore blob, as `write_request` sees it."""
    inputs = {"sd_file": {"path": "/media/sd.json"}, "target_hsm": "contoso--new"}
    root = SimpleNamespace(genesis={"inputs": inputs}, run_class=RunClass("incident"))
    asked = {"kind": "restore_blob", "ask": "Make the blob", "expects": {"exchange": "x5t"}}
    family = SimpleNamespace(root=root, states={RUN: root}, requests={(RUN, "blob"): asked})
    monkeypatch.setattr(deliveries, "read_family", lambda _store, _run: family)
    monkeypatch.setattr(deliveries, "waiting_step", lambda *_: None)
    monkeypatch.setattr(deliveries, "_exchange_certificate", lambda *_: exchange.der)


@pytest.mark.usefixtures("waiting")
def test_a_request_names_the_ceremony_and_the_command_for_one_place(tmp_path):
    facts = deliveries.write_request(None, RUN, "blob", tmp_path / "out")
    certificate = tmp_path / "out" / "exchange.cer"
    assert facts["open"] == (
        f"drengine ceremony open --session SESSION --sd-file /media/sd.json "
        f"--exchange-cert {certificate} --target contoso--new --combiner NAME --witness NAME "
        f"--purpose {RUN} --class incident --register REGISTER"
    )
    assert facts["command"].startswith("drengine ceremony combine --sd-file /media/sd.json ")
    assert b"BEGIN CERTIFICATE" in certificate.read_bytes()
