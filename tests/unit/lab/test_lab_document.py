"""docs/lab.md says of every setting what the settings themselves say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import get_args

from drengine.lab.disasters import KINDS
from drengine.lab.faults import Kind

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "lab.md").read_text()


def test_the_table_of_settings_is_the_settings() -> None:
    file = ROOT / "tests" / "lab" / "conformance" / "settings_table.py"
    loaded = importlib.util.spec_from_file_location("settings_table", file)
    assert loaded is not None
    assert loaded.loader is not None
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    assert module.document(TEXT) == TEXT, "run tests/lab/conformance/settings_table.py"


def test_every_kind_of_fault_and_disaster_is_described() -> None:
    for name in (*get_args(Kind), *KINDS):
        assert f"`{name}`" in TEXT, name


def test_the_conformance_table_has_every_family_of_commands() -> None:
    for words in (
        "az login",
        "az keyvault create",
        "az keyvault security-domain upload",
        "az keyvault restore start",
        "az keyvault region add",
        "az keyvault private-endpoint-connection approve",
        "az keyvault role definition create",
        "az sql mi tde-key set",
        "az sql midb list",
        "az sql instance-failover-group set-primary",
        "az storage blob upload",
        "identity, keyvault-keys, storage-blob",
        "curl: ",
    ):
        assert f"| `{words}" in TEXT, words
