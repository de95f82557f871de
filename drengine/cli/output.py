"""What every command prints with: results to stdout, talk to stderr.

Rules:
- Never colour alone: each state has a symbol and a word.
- A stream that cannot encode the symbols gets ASCII; NO_COLOR, CI and pipes get no colour.
- Names, messages and outputs come from outside. What would move the cursor, recolour, hide
  or reorder text is written out; only what `styled` made reaches the terminal as a sequence.
- JSON results carry a `schema` field.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import click

from drengine.errors import DrError
from drengine.evidence.words import INVISIBLE, visible

_ESCAPE: Final = f"\ufdd0{os.urandom(8).hex()}"
"""Stands for the escape character in styled text until it is printed; nobody can guess it."""

_ASCII: Final = str.maketrans(
    {
        "✓": "+",
        "✗": "x",
        "●": "*",
        "○": "o",
        "⏸": "=",
        "⏳": "~",
        "⚠": "!",
        "·": ".",
        "…": "...",
        "→": "->",
        "↶": "<",
        "⇢": ">",
        "├": "|",
        "└": "`",
        "─": "-",
        "▓": "#",
        "░": ".",
        "—": "-",
        "\u2013": "-",
        "•": "*",
        "“": '"',
        "”": '"',
        "\u2019": "'",
    }
)
_PROBE: Final = "✓✗●⏸⏳⚠·…→▓░"

output_option = click.option(
    "-o",
    "--output",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the result; JSON has a 'schema' field.",
)


def prepare_streams() -> None:
    """Let no character that a stream cannot encode end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def is_plain(stream: TextIO) -> bool:
    """Whether the stream gets plain lines: no colour, no redrawing."""
    environ = os.environ
    if environ.get("NO_COLOR") or environ.get("CI") or environ.get("TERM") == "dumb":
        return True
    return not stream.isatty()


def fitted(text: str, stream: TextIO) -> str:
    """Return `text` with symbols that the stream can show."""
    try:
        _PROBE.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return text.translate(_ASCII)
    return text


def styled(text: str, **style: Any) -> str:
    """Return `text` with a colour or weight, for `say`, `talk` and the live board."""
    return click.style(visible(text), **style).replace("\x1b", _ESCAPE)


def shown(text: str) -> str:
    """Return what a terminal may get of `text`: no control characters but those of `styled`."""
    return visible(text).replace(_ESCAPE, "\x1b")


def say(text: str = "") -> None:
    """Print a line of the result."""
    click.echo(fitted(shown(text), sys.stdout), color=None if not is_plain(sys.stdout) else False)


def talk(text: str = "") -> None:
    """Print a line that is not the result."""
    colour = None if not is_plain(sys.stderr) else False
    click.echo(fitted(shown(text), sys.stderr), err=True, color=colour)


def emit(schema: str, document: Mapping[str, Any]) -> None:
    """Print a JSON result; characters that would act on a terminal are escaped in it."""
    text = json.dumps({"schema": schema, **document}, indent=2, ensure_ascii=False)
    click.echo(INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def show_error(error: DrError, *, as_json: bool) -> None:
    """Print an error: what, why, and what to do next."""
    if as_json:
        emit("drengine/error/v1", error.to_json())
        return
    talk(styled(f"✗ {error.message}", fg="red", bold=True))
    if error.hint:
        talk(f"  Next: {error.hint}")
    talk(styled(f"  {error.code} · drengine explain {error.code}", dim=True))


def spell_ms(ms: int) -> str:
    """Return a duration as a person reads it: 1h12m, 4m05s, 12s."""
    seconds = max(ms, 0) // 1000
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def clock_ms(ms: int) -> str:
    """Return a duration as a clock: 00:47:12."""
    seconds = max(ms, 0) // 1000
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def program() -> str:
    """Return how this program is called here, for commands that a person copies."""
    if shutil.which("drengine"):
        return "drengine"
    called = Path(sys.argv[0])
    if called.name != "drengine":
        return f"{sys.executable} -m drengine"
    here = Path.cwd()
    return str(called.relative_to(here) if called.is_relative_to(here) else called)


def one_line(text: str) -> str:
    """Return all of `text` on one line: text from outside must not look like a line of ours."""
    return " ".join(text.split())


def shorten(text: str, width: int) -> str:
    """Return `text` on one line of at most `width` characters."""
    line = one_line(text)
    return line if len(line) <= width else f"{line[: max(width - 1, 0)]}…"


_CLASS_COLOURS: Final = {"drill": "blue", "incident": "red", "tabletop": "magenta"}


def banner(run_class: str, *, lab: bool) -> str:
    """Return the words that stand on every screen: what the run is for, and LAB in a lab."""
    colour = _CLASS_COLOURS.get(run_class, "white")
    words = styled(f" {run_class.upper()} ", bg=colour, fg="white", bold=True)
    return words + styled(" LAB ", bg="yellow", fg="black", bold=True) if lab else words
