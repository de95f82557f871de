from __future__ import annotations

import ast
import itertools
from dataclasses import fields
from pathlib import Path

import pytest

from drengine.lab import settings
from drengine.lab.settings import Settings, fast_settings, load_settings, save_settings


def test_settings_go_through_their_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    assert load_settings(file) == Settings()
    save_settings(file, fast_settings(Settings(backup=3)))
    assert load_settings(file) == Settings(backup=3, retry_after_ms=40)


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ValueError, match="unknown lab settings: durations, speed"):
        settings.from_document({"speed": 1, "durations": 2, "backup": 3})


def test_every_setting_is_documented() -> None:
    tree = ast.parse(Path(settings.__file__).read_text())
    (body,) = [
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    ]
    documented = {
        entry.target.id
        for entry, after in itertools.pairwise(body)
        if isinstance(entry, ast.AnnAssign)
        and isinstance(entry.target, ast.Name)
        and isinstance(after, ast.Expr)
    }
    assert documented == {field.name for field in fields(Settings)}


def test_every_setting_is_used() -> None:
    package = Path(settings.__file__).parent
    sources = "".join(
        file.read_text() for file in package.rglob("*.py") if file.name != "settings.py"
    )
    unused = [field.name for field in fields(Settings) if f".{field.name}" not in sources]
    assert unused == []
