"""The shape of the code: sizes, names, docstrings, and nothing left half done."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "drengine").rglob("*.py"))
MOST_LINES, MOST_FUNCTION_LINES = 500, 70
UNWANTED = re.compile(r"(^|_)(manager|helper|helpers|util|utils|misc)(_|$)", re.IGNORECASE)


def trees():
    for path in FILES:
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def test_files_and_functions_fit():
    large = [
        f"{path.relative_to(ROOT)}: {count} lines"
        for path in FILES
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    ]
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MOST_FUNCTION_LINES:
                    large.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    assert large == []


def test_every_module_says_what_it_is_for():
    silent = [str(path) for path, tree in trees() if not ast.get_docstring(tree)]
    assert silent == []


def test_no_module_or_class_has_a_name_that_says_nothing():
    vague = [str(path) for path, _ in trees() if UNWANTED.search(path.stem)]
    vague += [
        f"{path}:{node.lineno}: {node.name}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and re.search(r"(Manager|Helper|Utils?)$", node.name)
    ]
    assert vague == []


@pytest.mark.parametrize("mark", ["TODO", "FIXME", "XXX", "NotImplementedError"])
def test_nothing_is_left_half_done(mark):
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(rf"\b{mark}\b", line)
    ]
    assert found == []


def test_no_file_carries_a_private_key_or_a_path_of_a_machine():
    secret = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}")
    place = re.compile(rb"/(?:home|root|Users)/[a-z0-9_]+/")
    shipped = [
        p
        for name in ("drengine", "runbooks", "templates", "docs")
        for p in sorted((ROOT / name).rglob("*"))
        if p.is_file() and "__pycache__" not in p.parts
    ]
    bad = [
        str(path.relative_to(ROOT))
        for path in shipped
        if secret.search(data := path.read_bytes()) or place.search(data)
    ]
    assert bad == []
