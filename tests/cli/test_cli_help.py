"""Every command explains itself, and asking costs nothing."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from drengine.cli.main import COMMANDS, SECTIONS, cli


def every_command():
    found = [()]
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, sub) for sub in command.list_commands(click.Context(command))]
    return found


@pytest.mark.parametrize("path", every_command(), ids=lambda path: " ".join(path) or "drengine")
def test_help_of_every_command_says_what_it_is_for(command, path):
    ended = command(*path, "--help")
    assert ended.code == 0
    assert "Usage: drengine" in ended.out
    described = ended.out.split("\n\n")[1].strip()
    assert len(described) > 20, "a command without a sentence"
    assert ended.err == ""


def test_the_listing_says_what_each_command_says(command):
    listing = command("--help").out
    for name, lazy in COMMANDS.items():
        assert f"{name} " in listing
        assert lazy.help in " ".join(listing.split())
        assert lazy.section in SECTIONS


@pytest.mark.parametrize("group", ["lab", "key", "journal", "approval", "actions", "ceremony"])
def test_no_line_of_a_groups_listing_is_cut_off(command, group):
    listed = command(group, "--help").out.partition("Commands:")[2]
    assert listed.strip()
    assert "..." not in listed


def test_a_mistyped_command_is_named_with_the_one_that_is_meant(command):
    ended = command("stauts")
    assert ended.code == 2
    assert "'status'" in ended.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(command, shell):
    ended = command("completion", shell)
    assert ended.code == 0
    assert "_DRENGINE_COMPLETE" in ended.out


BUDGET = """
import sys
from drengine.cli.main import run
codes = [run(line.split()) for line in {lines!r}]
assert set(codes) <= {{0}}, codes
heavy = {heavy!r}
loaded = sorted(name for name in heavy if name in sys.modules)
assert not loaded, f"loaded: {{loaded}}"
"""
HEAVY = ("azure", "aiohttp", "cryptography", "msal", "requests")
ALL = (*HEAVY, "yaml", "pydantic", "rich", "jinja2", "transitions", "sqlite3", "asyncio")


@pytest.mark.parametrize(
    ("lines", "heavy"),
    [
        (["--help", "--version", "completion bash"], ALL),
        (["status", "status --all", "validate mhsm-full-recovery"], HEAVY),
        (
            ["explain exit-codes", "explain DR-O001", "explain K09", "explain actions", "rules"],
            HEAVY,
        ),
        (["plan --help", "run --help", "drill --help", "lab --help", "ceremony --help"], HEAVY),
    ],
    ids=["asking", "reading", "explaining", "help of the heavy ones"],
)
@pytest.mark.usefixtures("home")
def test_light_commands_load_nothing_heavy(lines, heavy):
    code = BUDGET.format(lines=lines, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_completing_a_command_name_loads_nothing_heavy():
    code = (
        "import os, sys; os.environ.update(COMP_WORDS='drengine st', COMP_CWORD='1',"
        " _DRENGINE_COMPLETE='bash_complete')\n"
        "import atexit\n"
        f"atexit.register(lambda: print([name for name in {HEAVY!r} if name in sys.modules]))\n"
        "from drengine.cli.main import run\n"
        "run([])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["plain,status", "[]"]
