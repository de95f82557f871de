"""Every command that a text names can be typed: hints are read at the worst of times."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

from drengine.cli.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"(?<![\w./-])drengine ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?")
QUOTED = re.compile(r"(?<=[`'])drengine ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?")
"""In a document of many sentences: what stands in quotes."""

_WORDS = (
    "again can computes does has holds in is itself keeps knows made makes never nor raises reads"
    " refuses runs sends set takes tells than that was writes"
)
PROSE = frozenset(_WORDS.split())
LABELS = ("canary", "challenge", "lab operator", "lab authority")
"""What follows the program's name in a sentence, and what bears its name."""


def subcommands():
    context = click.Context(cli)
    groups = {name: cli.get_command(context, name) for name in COMMANDS}
    return {
        name: set(group.list_commands(click.Context(group)))
        for name, group in groups.items()
        if isinstance(group, click.Group)
    }


KNOWN = subcommands()


def unknown_in(text, named=NAMED):
    """Return what a text names as a command and is none."""
    for word, second in named.findall(text):
        if word in PROSE or f"{word} {second}".strip() in LABELS:
            continue
        if word not in COMMANDS:
            yield f"drengine {word}"
        elif word in KNOWN and second and second not in KNOWN[word]:
            yield f"drengine {word} {second}"


def texts(path):
    """Return the texts of a module, an f-string as one with a mark for each value in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in inside:
                yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
            yield "".join(map(str, parts))


def test_every_command_that_a_text_of_the_package_names_exists():
    bad = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "drengine").rglob("*.py"))
        for text in texts(path)
        for name in unknown_in(text)
    ]
    assert bad == []


@pytest.mark.parametrize("folder", ["templates", "runbooks", "docs", "README.md", "SECURITY.md"])
def test_every_command_that_a_document_names_exists(folder):
    place = ROOT / folder
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    bad = []
    for path in files:
        if path.suffix in {".md", ".txt", ".yaml", ".py", ".html", ".j2", ".sh"}:
            bad += [
                f"{path.name}: {name}"
                for name in unknown_in(path.read_text(encoding="utf-8"), QUOTED)
            ]
    assert bad == []


def test_a_command_that_does_not_exist_is_found_and_a_sentence_is_not():
    assert list(unknown_in("a firewall is in between: drengine doctor")) == ["drengine doctor"]
    assert list(unknown_in("see 'drengine key trsut'")) == ["drengine key trsut"]
    assert (
        list(unknown_in("drengine never purges; drengine key trust t ada; drengine status")) == []
    )
    assert not PROSE & set(COMMANDS)
