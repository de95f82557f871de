"""Strict YAML: text -> a plain JSON tree and the place of every key and value.

A runbook is read on the worst day, by people who did not write it. Whatever makes
YAML surprising is therefore refused, not interpreted:

* no tags, anchors, aliases, merge keys, directives, duplicate keys or second document;
* `true` and `false` are the only booleans, `null` and `~` (or nothing) the only nulls,
  integers are decimal without a leading zero; `no`, `0755`, `1e3` and dates stay text;
* decimal fractions are refused, since a plan holds no floats;
* no byte-order mark, no control or text-direction character, escaped or not;
* at most 256 kB, 20 levels and 20,000 nodes, counted while reading.

It does not know what a runbook is; `document` does. Every refusal is a
`RunbookError` with file, line and column, and the first one ends the reading.
This is the only module that imports PyYAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import yaml

from drengine.errors import RunbookError
from drengine.model.canonical import Json
from drengine.runbook.suggest import shown

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 20
MAX_NODES: Final = 20_000

Path: TypeAlias = tuple[str | int, ...]

_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e"
    "\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
"""Control characters, and characters that change how the rest of a line is shown."""

_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT: Final = re.compile(r"[-+]?\.inf|\.nan", re.IGNORECASE)
_NUMBER_START: Final = frozenset("0123456789+-.")
_MAX_DIGITS: Final = 18

# libyaml is a hundred times faster; the pure reader obeys the same caps where it is missing.
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Place(NamedTuple):
    """Where a node stands, 1-based: its key (for a list item: the item) and its value."""

    key: tuple[int, int]
    value: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tree:
    """A document: plain JSON values, and the place of each path in it."""

    value: Json
    places: Mapping[Path, Place]
    file: str
    text: str

    def place(self, path: Path) -> Place:
        """Return the place of `path`, or of the nearest thing around it that exists."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]


def parse_yaml(text: str | bytes, file: str) -> Tree:
    """Return the tree of the one document in `text`.

    Raises:
        RunbookError: for everything that the module's rules refuse, with its place.
    """
    decoded = _decode(text, file)
    return _Reader(decoded, file).read()


def _decode(text: str | bytes, file: str) -> str:
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        message = f"the document has {size:,} bytes; at most {MAX_BYTES:,} are read"
        raise RunbookError(message, file=file, line=1, column=1)
    if isinstance(text, bytes):
        text = _from_utf8(text, file)
    if found := _UNSAFE.search(text):
        line, column = _line_column(text, found.start())
        message = f"character U+{ord(found[0]):04X} is not allowed in a runbook"
        hint = "Remove it; it is a control character or changes how the text around it is shown."
        raise RunbookError(message, file=file, line=line, column=column, hint=hint)
    return text


def _from_utf8(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        message = f"the document is not UTF-8: byte {data[error.start]:#04x}"
        hint = "Save the file as UTF-8 without a byte-order mark."
        raise RunbookError(message, file=file, line=line, column=column, hint=hint) from error


def _line_column(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being filled."""

    path: Path
    value: dict[str, Json] | list[Json]
    key: str | None = None
    key_mark: tuple[int, int] = (1, 1)


@dataclass(slots=True)
class _Reader:
    """Builds the tree from events with a stack of its own, so that no depth exhausts Python's."""

    text: str
    file: str
    places: dict[Path, Place] = field(default_factory=dict)
    stack: list[_Open] = field(default_factory=list)
    root: Json = None
    documents: int = 0
    nodes: int = 0

    def read(self) -> Tree:
        for event in self._events():
            self._take(event)
        if not self.documents:
            raise RunbookError(
                "the document is empty; a runbook was expected", file=self.file, line=1, column=1
            )
        return Tree(self.root, self.places, self.file, self.text)

    def _events(self) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(self.text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(error) from None
        except (yaml.YAMLError, RecursionError) as error:
            message = f"the document is not YAML ({type(error).__name__})"
            raise RunbookError(message, file=self.file, line=1, column=1) from error

    def _syntax_error(self, error: yaml.MarkedYAMLError) -> RunbookError:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        context = f" ({error.context})" if error.context else ""
        lines = self.text.split("\n")
        hint = ""
        if line < len(lines) and "${" in lines[line]:
            hint = 'Put an expression in double quotes: "${…}".'
        elif line < len(lines) and "\t" in lines[line]:
            hint = "Indent with spaces; YAML does not allow tabs."
        return RunbookError(
            f"not valid YAML: {error.problem}{context}",
            file=self.file,
            line=line + 1,
            column=column + 1,
            hint=hint,
        )

    def _refuse(self, event: yaml.Event, message: str, hint: str = "") -> RunbookError:
        line, column = _mark(event)
        return RunbookError(message, file=self.file, line=line, column=column, hint=hint)

    def _take(self, event: yaml.Event) -> None:
        if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self.stack.pop()
        elif isinstance(event, yaml.AliasEvent):
            raise self._refuse(event, "an alias (`*name`) is not allowed; write the value out")
        elif isinstance(event, yaml.NodeEvent):
            self._node(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._start_document(event)

    def _start_document(self, event: yaml.DocumentStartEvent) -> None:
        self.documents += 1
        if self.documents > 1:
            raise self._refuse(event, "a second document (`---`) is not allowed in one file")
        if event.version or event.tags:
            raise self._refuse(event, "a directive (`%…`) is not allowed")

    def _node(self, event: yaml.NodeEvent) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._refuse(event, f"the document has more than {MAX_NODES:,} nodes")
        if event.anchor is not None:
            raise self._refuse(event, "an anchor (`&name`) is not allowed; write the value out")
        if getattr(event, "tag", None) is not None:
            raise self._refuse(event, "a tag (`!…`) is not allowed; write a plain value")
        top = self.stack[-1] if self.stack else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            self._key(event, top)
        elif isinstance(event, yaml.ScalarEvent):
            self._place(event, self._scalar(event))
        else:
            value: dict[str, Json] | list[Json] = (
                {} if isinstance(event, yaml.MappingStartEvent) else []
            )
            path = self._place(event, value)
            if len(self.stack) >= MAX_DEPTH:
                raise self._refuse(event, f"nested deeper than {MAX_DEPTH} levels")
            self.stack.append(_Open(path, value))

    def _key(self, event: yaml.NodeEvent, top: _Open) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refuse(event, "a key must be plain text, not a list or mapping")
        key = self._text(event)
        if not event.style and key == "<<":
            raise self._refuse(event, "a merge key (`<<`) is not allowed; write the keys out")
        if not key:
            raise self._refuse(event, "an empty key is not allowed")
        if key in top.value:
            line, column = self.places[(*top.path, key)].key
            raise self._refuse(
                event, f"key {shown(key)} stands twice; it is already at line {line}:{column}"
            )
        top.key, top.key_mark = key, _mark(event)

    def _place(self, event: yaml.Event, value: Json) -> Path:
        mark = _mark(event)
        if not self.stack:
            self.root = value
            self.places[()] = Place(mark, mark)
            return ()
        top = self.stack[-1]
        if isinstance(top.value, dict):
            assert top.key is not None  # noqa: S101 - `_node` sends a mapping's first half to `_key`
            path: Path = (*top.path, top.key)
            top.value[top.key] = value
            self.places[path] = Place(top.key_mark, mark)
            top.key = None
        else:
            path = (*top.path, len(top.value))
            top.value.append(value)
            self.places[path] = Place(mark, mark)
        return path

    def _text(self, event: yaml.ScalarEvent) -> str:
        text: str = event.value
        # The document as a whole has been searched; only an escape can bring one in here.
        if event.style == '"' and (found := _UNSAFE.search(text)):
            raise self._refuse(event, f"the text contains character U+{ord(found[0]):04X}")
        return text

    def _scalar(self, event: yaml.ScalarEvent) -> Json:
        text = self._text(event)
        if event.style:  # libyaml says "" where the pure reader says None
            return text
        if text in ("true", "false"):
            return text == "true"
        if text in ("", "~", "null"):
            return None
        if text[0] in _NUMBER_START:
            return self._number(event, text)
        return text

    def _number(self, event: yaml.ScalarEvent, text: str) -> Json:
        if _INTEGER.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                raise self._refuse(
                    event,
                    f"a number of {len(text)} digits is too large",
                    "Put it in quotes if it is a name and not a number.",
                )
            return int(text)
        if _FLOAT.fullmatch(text) or _SPECIAL_FLOAT.fullmatch(text):
            raise self._refuse(
                event,
                f"{shown(text)} is a decimal fraction; a plan holds none",
                "Write a whole number, or put it in quotes if it is text (a version, say).",
            )
        return text


def _mark(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)
