"""Where the templates and shipped runbooks are: in a checkout or inside the wheel."""

from __future__ import annotations

from pathlib import Path

from drengine.errors import InternalError

_PACKAGE = Path(__file__).resolve().parent


def template_folder() -> Path:
    """Return the folder of the templates.

    Raises:
        InternalError: this installation has none.
    """
    return _folder("templates")


def runbook_folder() -> Path:
    """Return the folder of the shipped runbooks.

    Raises:
        InternalError: this installation has none.
    """
    return _folder("runbooks")


def _folder(name: str) -> Path:
    # The wheel first: a folder of that name beside site-packages is not ours.
    shipped = _PACKAGE / "_shipped" / name
    if shipped.is_dir():
        return shipped
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    raise InternalError(
        f"this installation has no {name}: looked for {shipped} and, as a checkout, for"
        f" {checkout / name}",
        hint="Install drengine again.",
    )
