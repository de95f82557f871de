"""The grammar of `${…}`: text -> a small tree. It evaluates nothing.

```
template   = { text | "$${" (a literal "${") | "${" or "}" }
or         = and { "or" and }
and        = not { "and" not }
not        = "not" not | compare
compare    = value [ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "in") value ]
value      = literal | path | function "(" or { "," or } ")" | "(" or ")"
path       = name { "." name | "[" digits "]" }
literal    = 'text' ('' is a quote) | integer | true | false | null
```
Names may contain hyphens (`steps.create-hsm.outputs.uri`), so there is no
arithmetic. Everything is ASCII outside quoted text. Caps: 1,000 characters an
expression, 20 levels, 50 expressions a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias

from drengine.errors import ExpressionError
from drengine.runbook.suggest import did_you_mean, shown

MAX_LENGTH: Final = 1_000
MAX_DEPTH: Final = 20
MAX_PARTS: Final = 50

FUNCTIONS: Final[Mapping[str, tuple[int, int]]] = {
    "len": (1, 1),
    "lower": (1, 1),
    "concat": (1, 20),
    "coalesce": (1, 20),
    "contains": (2, 2),
    "join": (2, 2),
    "host": (1, 1),
}
"""Every function with the least and the most arguments it takes."""

RESERVED: Final = frozenset({"and", "or", "not", "in", "true", "false", "null"})
COMPARISONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})


@dataclass(frozen=True, slots=True)
class Literal:
    """A value written in the expression."""

    value: str | int | bool | None
    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reference:
    """A path into the scope; an index is an int."""

    segments: tuple[str | int, ...]
    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One of `FUNCTIONS` with its arguments."""

    name: str
    arguments: tuple[Node, ...]
    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a boolean."""

    operand: Node
    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Logic:
    """`and` or `or` over two or more booleans."""

    operator: str
    operands: tuple[Node, ...]
    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Compare:
    """One comparison of two values."""

    operator: str
    left: Node
    right: Node
    at: int = field(default=0, compare=False, repr=False)


Node: TypeAlias = Literal | Reference | Call | Not | Logic | Compare
Template: TypeAlias = tuple[str | Node, ...]

_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<name>[A-Za-z_][A-Za-z0-9_-]*)
      | (?P<int>-?[0-9]+)
      | (?P<text>'(?:[^']|'')*')
      | (?P<symbol>==|!=|<=|>=|[<>().,\[\]}])""",
    re.VERBOSE,
)
_MAX_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def parse_template(text: str) -> Template:
    """Return the parts of `text`: plain text and expression trees, in order.

    Raises:
        ExpressionError: for what the grammar does not allow, with the column in `text`.
    """
    if "${" not in text:
        return (text,) if text else ()
    return _parse_short(text) if len(text) <= MAX_LENGTH else _parse(text)


@lru_cache(maxsize=4096)
def _parse_short(text: str) -> Template:
    return _parse(text)


def _parse(text: str) -> Template:
    parts: list[str | Node] = []
    plain: list[str] = []
    position = expressions = 0
    while (start := text.find("${", position)) >= 0:
        if start > position and text[start - 1] == "$":
            plain += (text[position : start - 1], "${")
            position = start + 2
            continue
        plain.append(text[position:start])
        _flush(plain, parts)
        node, position = _Parser(text, start + 2).parse()
        parts.append(node)
        expressions += 1
        if expressions > MAX_PARTS:
            raise ExpressionError(f"a text holds more than {MAX_PARTS} expressions")
    plain.append(text[position:])
    _flush(plain, parts)
    return tuple(parts)


def _flush(plain: list[str], parts: list[str | Node]) -> None:
    if text := "".join(plain):
        parts.append(text)
    plain.clear()


def walk(node: Node) -> Iterator[Node]:
    """Yield `node` and everything under it."""
    yield node
    match node:
        case Call(arguments=below) | Logic(operands=below):
            for item in below:
                yield from walk(item)
        case Not(operand=operand):
            yield from walk(operand)
        case Compare(left=left, right=right):
            yield from walk(left)
            yield from walk(right)
        case _:
            pass


class _Parser:
    """Recursive descent over the tokens of one expression, up to its closing brace."""

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._start = start
        self._end = start  # where the next token begins
        self._depth = 0
        self._token = self._next()

    def parse(self) -> tuple[Node, int]:
        """Return the tree and the position after the closing brace."""
        node = self._or()
        if self._token.text != "}":
            raise self._unexpected("the end of the expression (`}`)")
        return node, self._token.at + 1

    def _next(self) -> _Token:
        while True:
            at = self._end
            if at - self._start > MAX_LENGTH:
                raise self._error(f"the expression is longer than {MAX_LENGTH:,} characters", at)
            found = _TOKEN.match(self._text, at, self._start + MAX_LENGTH + 1)
            if found is None:
                raise self._no_token(at)
            self._end = found.end()
            kind = found.lastgroup or ""
            if kind != "space":
                return _Token(kind, found[0], at)

    def _no_token(self, at: int) -> ExpressionError:
        if at >= len(self._text):
            return self._error("the expression is not closed; `}` is missing", at)
        if self._text[at] == "'":
            if len(self._text) - self._start > MAX_LENGTH:
                return self._error(f"the expression is longer than {MAX_LENGTH:,} characters", at)
            return self._error("a quoted text is not closed; `'` is missing", at)
        hint = " (text stands in single quotes)" if self._text[at] == '"' else ""
        return self._error(f"character {shown(self._text[at])} is not allowed here{hint}", at)

    def _error(self, message: str, at: int) -> ExpressionError:
        return ExpressionError(message, expression=self._source(), column=at + 1)

    def _source(self) -> str:
        return self._text if len(self._text) <= MAX_LENGTH else self._text[:MAX_LENGTH]

    def _unexpected(self, wanted: str) -> ExpressionError:
        token = self._token
        return self._error(f"found {shown(token.text)} where {wanted} was expected", token.at)

    def _advance(self) -> _Token:
        token = self._token
        # The closing brace is the last token; what follows is text of the template.
        if token.text != "}":
            self._token = self._next()
        return token

    def _is_word(self, word: str) -> bool:
        return self._token.kind == "name" and self._token.text == word

    def _or(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH} levels", self._token.at)
        node = self._logic("or")
        self._depth -= 1
        return node

    def _logic(self, word: str) -> Node:
        at, operands = self._token.at, [self._below(word)]
        while self._is_word(word):
            self._advance()
            operands.append(self._below(word))
        return operands[0] if len(operands) == 1 else Logic(word, tuple(operands), at)

    def _below(self, word: str) -> Node:
        return self._logic("and") if word == "or" else self._not()

    def _not(self) -> Node:
        at, negations = self._token.at, 0
        while self._is_word("not"):
            self._advance()
            negations += 1
        node = self._compare()
        if not negations:
            return node
        return Not(node, at) if negations % 2 else Not(Not(node, at), at)

    def _compare(self) -> Node:
        left = self._value()
        operator = self._token
        if operator.text not in COMPARISONS or operator.kind == "text":
            return left
        self._advance()
        right = self._value()
        if self._token.text in COMPARISONS and self._token.kind != "text":
            raise self._error(
                "comparisons do not chain; join two of them with `and`", self._token.at
            )
        return Compare(operator.text, left, right, operator.at)

    def _value(self) -> Node:
        token = self._token
        match token.kind:
            case "int":
                return self._integer()
            case "text":
                self._advance()
                return Literal(token.text[1:-1].replace("''", "'"), token.at)
            case "name":
                return self._name()
            case _ if token.text == "(":
                self._advance()
                node = self._or()
                self._expect(")")
                return node
            case _:
                raise self._unexpected("a value")

    def _integer(self) -> Literal:
        token = self._advance()
        if len(token.text) > _MAX_DIGITS:
            raise self._error("the number is too large", token.at)
        return Literal(int(token.text), token.at)

    def _name(self) -> Node:
        token = self._token
        if token.text in ("true", "false", "null"):
            self._advance()
            return Literal({"true": True, "false": False, "null": None}[token.text], token.at)
        if token.text in RESERVED:
            raise self._unexpected("a value")
        self._advance()
        return self._call(token) if self._token.text == "(" else self._reference(token)

    def _call(self, name: _Token) -> Call:
        if name.text not in FUNCTIONS:
            close = did_you_mean(name.text, FUNCTIONS)
            raise self._error(f"unknown function {shown(name.text)}{close}", name.at)
        self._advance()
        arguments: list[Node] = []
        if self._token.text != ")":
            arguments.append(self._or())
            while self._token.text == ",":
                self._advance()
                arguments.append(self._or())
        self._expect(")")
        least, most = FUNCTIONS[name.text]
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise self._error(f"{name.text}() takes {wanted}, not {len(arguments)}", name.at)
        return Call(name.text, tuple(arguments), name.at)

    def _reference(self, first: _Token) -> Reference:
        segments: list[str | int] = [first.text]
        while self._token.text in (".", "["):
            if self._advance().text == ".":
                if self._token.kind != "name":
                    raise self._unexpected("a name")
                segments.append(self._advance().text)
            else:
                segments.append(self._index())
                self._expect("]")
        return Reference(tuple(segments), first.at)

    def _index(self) -> int:
        index = self._integer() if self._token.kind == "int" else None
        if index is None or not isinstance(index.value, int) or index.value < 0:
            raise self._unexpected("a position such as 0")
        return index.value

    def _expect(self, symbol: str) -> None:
        if self._token.text != symbol or self._token.kind != "symbol":
            raise self._unexpected(f"`{symbol}`")
        self._advance()
