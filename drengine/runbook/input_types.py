"""What each input type takes, and what of it stands in the plan.

Text from a command line and JSON from a file or a parent run go through the same
door: text is read as what the type says, JSON must already be of that kind. Values
that may be secret are never repeated in a message.

A file is not opened here: text for a `file` input is a path and is left to `inputs`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from drengine.model.canonical import Json, parse_strict, plain
from drengine.model.ids import HSM_NAME, LAB_HSM_NAME, region_key
from drengine.model.runbook import InputSpec, InputType
from drengine.model.secret import SECRET_SCHEMES, USER_DELEGATION, SecretRef
from drengine.runbook import durations
from drengine.runbook.expression_functions import kind_of
from drengine.runbook.suggest import did_you_mean, shown

MAX_TEXT: Final = 64 * 1024
MAX_JSON: Final = 4 * 1024 * 1024
MAX_HSM_NAME: Final = 24

_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOCATION: Final = re.compile(r"[a-z][a-z0-9]{2,39}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
_SEGMENT: Final = r"[A-Za-z0-9_.()~-]*[A-Za-z0-9_()~-]"
_RESOURCE_ID: Final = re.compile(
    r"/subscriptions/[0-9a-fA-F-]{36}"
    rf"(?:/resourceGroups/{_SEGMENT}(?:/providers/{_SEGMENT}(?:/{_SEGMENT}/{_SEGMENT})+)?)?",
    re.IGNORECASE,
)
_FOLDER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SECRET: Final = re.compile(
    r"(?:^|[?&;\s])sig=[A-Za-z0-9%+/]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|(?:AccountKey|SharedAccessKey)=",
    re.IGNORECASE,
)


class MistypedInput(ValueError):
    """A value does not fit the type of its input; the text says why and repeats no secret."""


def looks_secret(text: str) -> bool:
    """Return whether `text` carries a SAS signature, an account key or a private key."""
    return _SECRET.search(text) is not None


def typed_value(spec: InputSpec, value: Json, *, now: str, allow_lab_names: bool) -> Json:
    """Return what stands in the plan for `value`.

    Raises:
        MistypedInput: when it does not fit the type or the choices.
    """
    if spec.type is InputType.HSM_NAME:
        typed = _hsm_name(value, allow_lab_names=allow_lab_names)
    elif spec.type is InputType.TIME and value == "now":
        typed = _time(now)
    else:
        typed = _READERS[spec.type](value)
    if spec.type is not InputType.SECRET:
        _check_texts(typed)
    if spec.choices:
        _check_choices(spec, typed)
    return typed


def _check_texts(value: Json) -> None:
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise MistypedInput(f"a text of {len(value):,} characters is too long")
        if _CONTROL.search(value):
            raise MistypedInput("the text holds a control character")
        if looks_secret(value):
            raise MistypedInput("the text looks like a secret; only an input of type secret may")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_texts(key)
            _check_texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_texts(item)


def _check_choices(spec: InputSpec, value: Json) -> None:
    for item in value if isinstance(value, (list, tuple)) else (value,):
        text = ("true" if item else "false") if isinstance(item, bool) else str(item)
        if text not in spec.choices:
            close = did_you_mean(text, spec.choices)
            raise MistypedInput(f"{_shown(item)} is not one of the choices{close}")


def _shown(value: Json) -> str:
    if isinstance(value, str) and not looks_secret(value):
        return shown(value)
    return kind_of(value) if not isinstance(value, int) else str(value)


def _wrong(wanted: str, value: Json) -> MistypedInput:
    return MistypedInput(f"expected {wanted}, found {_shown(value)}")


def _text(wanted: str, value: Json) -> str:
    if isinstance(value, str):
        return value
    raise _wrong(wanted, value)


def _matching(pattern: re.Pattern[str], wanted: str, value: Json) -> str:
    text = _text(wanted, value)
    if not pattern.fullmatch(text):
        raise _wrong(wanted, value)
    return text


def _string(value: Json) -> Json:
    return _text("text", value)


def _bool(value: Json) -> Json:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise _wrong("true or false", value)


def _int(value: Json) -> Json:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(_matching(_INTEGER, "a whole number", value))


def _duration(value: Json) -> Json:
    """Read duration text; a plan's own form, milliseconds, comes in from a parent run."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    try:
        return durations.parse_duration(_text(f"a duration {durations.EXAMPLES}", value))
    except MistypedInput:
        raise
    except ValueError:
        raise _wrong(f"a duration {durations.EXAMPLES}", value) from None


def _time(value: Json) -> Json:
    wanted = "a UTC time such as 2026-11-22T03:00:00Z, or now"
    text = _matching(_TIME, wanted, value)
    try:
        datetime.fromisoformat(text.removesuffix("Z") + "+00:00")
    except ValueError:
        raise _wrong(wanted, value) from None
    return text


def _hsm_name(value: Json, *, allow_lab_names: bool) -> Json:
    wanted = "an HSM name: 3 to 24 letters, digits and single hyphens, a letter first"
    pattern = LAB_HSM_NAME if allow_lab_names else HSM_NAME
    text = _matching(pattern, wanted, value)
    if len(text) > MAX_HSM_NAME:
        raise _wrong(wanted, value)
    return text


def _location(value: Json) -> Json:
    """Read a region; Azure takes `West Europe` for `westeurope`, the plan holds one form."""
    text = _text("a region such as westeurope", value)
    if not _LOCATION.fullmatch(name := region_key(text)):
        raise _wrong("a region such as westeurope", value)
    return name


def _guid(value: Json) -> Json:
    text = _text("a GUID", value).lower()
    if not _GUID.fullmatch(text):
        raise _wrong("a GUID", value)
    return text


def _resource_id(value: Json) -> Json:
    text = _text("an Azure resource id", value)
    if not _RESOURCE_ID.fullmatch(text):
        raise _wrong("an Azure resource id (/subscriptions/…/resourceGroups/…/providers/…)", value)
    return text


def _url(value: Json) -> Json:
    text = _text("an https URL", value)
    try:
        parts = urlsplit(text)
        is_good = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
        has_signature = "sig" in {key.lower() for key in parse_qs(parts.query)}
    except ValueError:
        is_good, has_signature = False, "sig=" in text
    if has_signature:
        raise MistypedInput("the URL carries a signature; give it as an input of type secret")
    if not is_good or not text.isascii() or re.search(r"[\s\\@#\x00-\x1f]", text):
        raise MistypedInput("expected an https URL without user, fragment or spaces")
    return text


def _folder(value: Json) -> Json:
    return _matching(_FOLDER, "latest or the name of a backup folder", value)


def _file(value: Json) -> Json:
    """Take what a file was read as; a path is turned into that by `inputs`."""
    keys = {"path", "sha256", "size"}
    if isinstance(value, Mapping) and value.keys() == keys:
        path, sha256, size = value["path"], value["sha256"], value["size"]
        is_size = isinstance(size, int) and not isinstance(size, bool) and size >= 0
        if isinstance(path, str) and isinstance(sha256, str) and is_size:
            if not _SHA256.fullmatch(sha256):
                raise MistypedInput("sha256 is not 64 lower-case hex digits")
            return dict(value)
    raise _wrong("a file: {path, sha256, size}", value)


def _secret(value: Json) -> Json:
    """Take a reference; what is not one may be the secret itself and is not repeated."""
    reference = SecretRef.parse(value) if isinstance(value, str) else None
    if isinstance(value, str) and value.lower().startswith("mint:") and reference is None:
        raise MistypedInput(f"one thing only is made: {USER_DELEGATION}, a SAS of the container")
    if reference is None or looks_secret(str(reference)) or _CONTROL.search(str(reference)):
        schemes = ", ".join(f"{scheme}:" for scheme in SECRET_SCHEMES if scheme != "mint")
        raise MistypedInput(
            f"expected a reference to a secret ({schemes}, or {USER_DELEGATION} for a SAS), not the"
            " secret itself"
        )
    return str(reference)


def _from_json_text(wanted: str, text: str) -> Any:
    try:
        return read_json(text)
    except ValueError as error:
        raise MistypedInput(f"expected {wanted} as JSON: {error}") from None


def _string_list(value: Json) -> Json:
    """Read a list; on a command line `a,b,c` will do where no text holds a comma."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            value = _from_json_text("a list of texts", value)
        else:
            value = [item.strip() for item in value.split(",")] if value.strip() else []
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return list(value)
    raise _wrong("a list of texts", value)


def _object(value: Json) -> Json:
    if isinstance(value, str):
        value = _from_json_text("an object", value)
    if isinstance(value, Mapping):
        return _plain(value)
    raise _wrong("an object", value)


def _object_list(value: Json) -> Json:
    if isinstance(value, str):
        value = _from_json_text("a list of objects", value)
    if isinstance(value, (list, tuple)) and all(isinstance(item, Mapping) for item in value):
        return _plain(value)
    raise _wrong("a list of objects", value)


def _plain(value: Json) -> Json:
    try:
        return plain(value)
    except ValueError as error:
        raise MistypedInput(str(error)) from None


def read_json(text: str, limit: int = MAX_JSON) -> Any:
    """Return the JSON in `text`: no fractions, no repeated key, no more than `limit` characters.

    Raises:
        ValueError: for anything else.
    """
    if len(text) > limit:
        raise ValueError(f"{len(text):,} characters are more than {limit:,}")
    return parse_strict(text)


_READERS: Final[Mapping[InputType, Callable[[Json], Json]]] = {
    InputType.STRING: _string,
    InputType.BOOL: _bool,
    InputType.INT: _int,
    InputType.DURATION: _duration,
    InputType.TIME: _time,
    InputType.LOCATION: _location,
    InputType.GUID: _guid,
    InputType.RESOURCE_ID: _resource_id,
    InputType.URL: _url,
    InputType.FILE: _file,
    InputType.DOCUMENT: _file,
    InputType.BACKUP_FOLDER: _folder,
    InputType.SECRET: _secret,
    InputType.STRING_LIST: _string_list,
    InputType.OBJECT: _object,
    InputType.OBJECT_LIST: _object_list,
}
