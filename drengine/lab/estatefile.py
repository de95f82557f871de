"""Reads the file that describes an estate: YAML, or JSON as a part of it.

Every refusal names file, line and column of the member that it is about. What a lab cannot
build is refused here, before anything is started.

Rules:
- members are those of `drengine.lab.spec`, besides `scale`, `settings` and `faults`;
- names of a HSM have `--` and of a storage account `-`, which real ones cannot have;
- each instance names a key of the estate; names of one kind differ, in any case.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import yaml

from drengine.errors import InputFileError
from drengine.lab import faults, spec
from drengine.lab.arm_resource import NAME
from drengine.lab.disasters import KINDS
from drengine.lab.hsm.keystore import CURVES, OCT_SIZES, RSA_SIZES
from drengine.lab.settings import misfit as settings_misfit

MAX_BYTES: Final = 8 * 1024 * 1024
MAX_DEPTH: Final = 12
MOST_VERSIONS: Final = 100
CUSTODIANS: Final = range(3, 11)
REQUIRED: Final = range(2, 11)
_PLAIN: Final = re.compile(r"[A-Za-z0-9][-A-Za-z0-9]{0,62}")
_ACCOUNT: Final = re.compile(r"(?=.*-)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_HINT: Final = "docs/lab.md lists what an estate file may say."
_SIZES: Final = {"RSA-HSM": RSA_SIZES, "oct-HSM": OCT_SIZES}
# libyaml is a hundred times faster, where it is there
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Where = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class EstateFile:
    """What a file asks for."""

    spec: spec.EstateSpec
    settings: Mapping[str, Any]
    faults: tuple[Mapping[str, Any], ...]


class _Wrong(Exception):
    """Something in the document is wrong.

    Parameters:
        where: the way to it from the root, by names and positions.
        text: what is wrong.
    """

    def __init__(self, where: Where, text: str) -> None:
        super().__init__(text)
        self.where = where
        self.text = text


@dataclass(slots=True)
class _Tree:
    """A document, and where each part of it stands."""

    value: Any
    places: dict[Where, tuple[int, int]] = field(default_factory=dict)


def read(file: Path) -> EstateFile:
    """Return what an estate file asks for.

    Raises:
        InputFileError: it cannot be read, or a lab cannot be built from it.
    """
    tree = _load(file)
    try:
        return _checked(tree.value)
    except _Wrong as wrong:
        line, column = _place(tree, wrong.where)
        shown = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in wrong.where)
        path = f"{shown.removeprefix('.')}: " if shown else ""
        raise InputFileError(
            f"reading the estate file {file}:{line}:{column}: {path}{wrong.text}", hint=_HINT
        ) from None


def _place(tree: _Tree, where: Where) -> tuple[int, int]:
    """Return where a part stands, or the nearest part around it."""
    for end in range(len(where), -1, -1):
        found = tree.places.get(where[:end])
        if found is not None:
            return found
    return 1, 1


def _load(file: Path) -> _Tree:
    try:
        raw = file.read_bytes()
        if len(raw) > MAX_BYTES:
            raise InputFileError(
                f"reading the estate file {file}: it has more than 8 MiB.", hint=_HINT
            )
        _survey(raw.decode())
        node = yaml.compose(raw.decode(), Loader=_Loader)
        tree = _Tree(None)
        if node is not None:
            _note(tree, node, ())
            tree.value = yaml.load(raw.decode(), Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InputFileError(
            f"reading the estate file {file}{at}: {error.problem or error.context}.", hint=_HINT
        ) from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputFileError(f"reading the estate file {file}: {error}.", hint=_HINT) from None
    return tree


def _survey(text: str) -> None:
    """Look for what must not be composed: the composer recurses, and aliases multiply.

    Raises:
        ValueError: it is nested too deeply, or uses aliases.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark else 0
        if depth > MAX_DEPTH:
            raise ValueError(f"line {line} is nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"line {line} has an alias, which an estate file does not take")


def _note(tree: _Tree, node: yaml.Node, where: Where) -> None:
    """Write down where a node and what lies in it stand.

    Raises:
        ValueError: a name stands twice.
    """
    tree.places.setdefault(where, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        for name, part in node.value:
            at = (*where, str(name.value))
            if at in tree.places:
                line = name.start_mark.line + 1
                raise ValueError(f"the member {name.value!r} stands twice, in line {line} again")
            tree.places[at] = (name.start_mark.line + 1, name.start_mark.column + 1)
            _note(tree, part, at)
    elif isinstance(node, yaml.SequenceNode):
        for number, part in enumerate(node.value):
            _note(tree, part, (*where, number))


def _checked(document: Any) -> EstateFile:
    members = {one.name for one in fields(spec.EstateSpec)}
    found = _object(document, (), members | {"scale", "settings", "faults"})
    settings = _object(found.pop("settings", {}), ("settings",), None)
    for name, value in settings.items():
        _refuse(("settings", name), settings_misfit(name, value))
    rules = tuple(_fault(one, at) for one, at in _items(found.pop("faults", []), ("faults",)))
    if "scale" in found:
        _check_scale(found)
    else:
        _check_parts(found)
    _check_names(found)
    try:
        wanted = spec.from_document(found)
    except (TypeError, ValueError) as error:
        raise _Wrong(("scale",) if "scale" in found else (), f"{error}.") from None
    _check_whole(wanted)
    return EstateFile(wanted, settings, rules)


def _refuse(where: Where, text: str) -> None:
    if text:
        raise _Wrong(where, text)


def _object(value: Any, where: Where, members: Iterable[str] | None) -> dict[str, Any]:
    """Return an object whose members are known; any member where `members` is None."""
    if not isinstance(value, dict):
        raise _Wrong(where, f"expected an object, found {value!r}.")
    for name in value:
        if members is not None and name not in members:
            near = difflib.get_close_matches(str(name), list(members), 1)
            advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(members)}."
            raise _Wrong((*where, str(name)), f"there is no such member; {advice}")
    return dict(value)


def _items(value: Any, where: Where) -> list[tuple[Any, Where]]:
    if not isinstance(value, list):
        raise _Wrong(where, f"expected a list, found {value!r}.")
    return [(one, (*where, number)) for number, one in enumerate(value)]


def _fault(value: Any, where: Where) -> Mapping[str, Any]:
    rule = _object(value, where, None)
    if rule.get("name") in KINDS:
        return _object(value, where, ("name", "target"))
    try:
        faults.rule_from(rule)
    except (TypeError, ValueError) as error:
        raise _Wrong(where, f"{error}.") from None
    return rule


def _whole(value: Any, where: Where, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _Wrong(where, f"expected a number from {least} to {most}, found {value!r}.")


def _text(value: Any, where: Where, form: re.Pattern[str] = _PLAIN, what: str = "") -> None:
    if not isinstance(value, str) or not form.fullmatch(value):
        wanted = what or "letters, digits and hyphens"
        raise _Wrong(where, f"expected {wanted}, found {value!r}.")


def _check_scale(found: dict[str, Any]) -> None:
    sizes = {
        "keys": spec.MOST_KEYS,
        "instances": spec.MOST_INSTANCES,
        "databases": spec.MOST_DATABASES,
    }
    for name, value in _object(found["scale"], ("scale",), sizes).items():
        _whole(value, ("scale", name), 1, sizes[name])
    for name in ("keys", "groups", "standalone"):
        if name in found:
            raise _Wrong((name,), "an estate of a scale has no parts of its own.")


def _check_parts(found: dict[str, Any]) -> None:
    for one, at in _items(found.get("keys", []), ("keys",)):
        _check_key(one, at)
    for one, at in _items(found.get("standalone", []), ("standalone",)):
        _check_instance(one, at)
    for one, at in _items(found.get("groups", []), ("groups",)):
        group = _named(one, at, spec.GroupSpec)
        for name in ("name", "secondary_name", "secondary_location"):
            _text(group[name], (*at, name))
        _check_instance(group["primary"], (*at, "primary"))


def _named(value: Any, where: Where, kind: Any) -> dict[str, Any]:
    """Return an object that has all members that a part of this kind needs."""
    found = _object(value, where, [one.name for one in fields(kind)])
    for one in fields(kind):
        if one.default is MISSING and one.name not in found:
            raise _Wrong(where, f"the member {one.name!r} is missing.")
    return found


def _check_key(value: Any, where: Where) -> None:
    key = _named(value, where, spec.KeySpec)
    _text(key["name"], (*where, "name"))
    kty = key.get("kty", "RSA-HSM")
    if kty not in {"RSA-HSM", "EC-HSM", "oct-HSM"}:
        raise _Wrong((*where, "kty"), f"expected RSA-HSM, EC-HSM or oct-HSM, found {kty!r}.")
    sizes = _SIZES.get(kty)
    if sizes is not None and key.get("size", 2048) not in sizes:
        shown = ", ".join(map(str, sizes))
        raise _Wrong((*where, "size"), f"expected one of {shown} for {kty}.")
    if kty == "EC-HSM" and key.get("crv") not in CURVES:
        raise _Wrong((*where, "crv"), f"expected one of {', '.join(CURVES)} for EC-HSM.")
    _whole(key.get("versions", 1), (*where, "versions"), 1, MOST_VERSIONS)


def _check_instance(value: Any, where: Where) -> None:
    instance = _named(value, where, spec.InstanceSpec)
    for name in ("name", "location"):
        _text(instance[name], (*where, name))
    if instance["key"] != "":
        _text(instance["key"], (*where, "key"))
    names = set()
    for name, at in _items(instance["databases"], (*where, "databases")):
        _text(name, at, re.compile(r"[\w][-\w ]{0,127}"), "the name of a database")
        if name.lower() in names:
            raise _Wrong(at, f"there is a database {name!r} already.")
        names.add(name.lower())


def _check_names(found: dict[str, Any]) -> None:
    checks: Mapping[str, Callable[[Any, Where], None]] = {
        "source_hsm": _hsm_name,
        "storage_account": lambda value, at: _text(
            value, at, _ACCOUNT, "3 to 63 small letters and digits with a hyphen among them"
        ),
        "custodians": lambda value, at: _whole(value, at, CUSTODIANS[0], CUSTODIANS[-1]),
        "required": lambda value, at: _whole(value, at, REQUIRED[0], REQUIRED[-1]),
        "distinct_materials": lambda value, at: _whole(value, at, 0, spec.MOST_KEYS),
        "purge_protection": _flag,
    }
    plain = ("resource_group", "location", "container", "identity")
    for name, value in found.items():
        if name in checks:
            checks[name](value, (name,))
        elif name in plain:
            _text(value, (name,))


def _flag(value: Any, where: Where) -> None:
    if not isinstance(value, bool):
        raise _Wrong(where, f"expected true or false, found {value!r}.")


def _hsm_name(value: Any, where: Where) -> None:
    _text(value, where, NAME, "3 to 24 letters, digits and hyphens")
    if "--" not in value:
        raise _Wrong(where, f"expected a name with '--', which real HSMs cannot have: {value!r}.")


def _check_whole(wanted: spec.EstateSpec) -> None:
    """Check what no part can say alone."""
    if wanted.required > wanted.custodians:
        raise _Wrong(("required",), f"more than the {wanted.custodians} custodians there are.")
    keys = _different("keys", [one.name for one in wanted.keys])
    if len(keys) > spec.MOST_KEYS:
        raise _Wrong(("keys",), f"a HSM holds {spec.MOST_KEYS} keys at most.")
    instances: list[tuple[Where, spec.InstanceSpec]] = [
        (("groups", n, "primary"), one.primary) for n, one in enumerate(wanted.groups)
    ]
    instances += [(("standalone", n), one) for n, one in enumerate(wanted.standalone)]
    _different("groups", [one.name for one in wanted.groups])
    seen = _different("groups", [one.secondary_name for one in wanted.groups], "secondary_name")
    for where, one in instances:
        if one.name.lower() in seen:
            raise _Wrong((*where, "name"), f"there is an instance {one.name!r} already.")
        seen.add(one.name.lower())
        if one.key and one.key.lower() not in keys:
            raise _Wrong((*where, "key"), f"the estate has no key {one.key!r}.")
    if len(seen) > spec.MOST_INSTANCES:
        raise _Wrong((), f"a lab takes {spec.MOST_INSTANCES} instances at most, not {len(seen)}.")
    count = sum(len(one.databases) for _, one in instances)
    if count > spec.MOST_DATABASES:
        raise _Wrong((), f"a lab takes {spec.MOST_DATABASES} databases at most, not {count}.")


def _different(part: str, names: list[str], member: str = "name") -> set[str]:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name.lower() in seen:
            raise _Wrong((part, number, member), f"the name {name!r} stands twice.")
        seen.add(name.lower())
    return seen
