"""Writes the table of settings into docs/lab.md from the settings themselves."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"


def rows() -> list[str]:
    """Return a row for each setting: name, values or default, what it is."""
    tree = ast.parse((ROOT / "drengine" / "lab" / "settings.py").read_text())
    settings = next(
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    found = []
    for node, after in zip(settings.body, settings.body[1:], strict=False):
        if not isinstance(node, ast.AnnAssign) or node.value is None:
            continue
        kind = ast.unparse(node.annotation).removeprefix("Literal").strip("[]")
        kind = kind.replace("|", "or")
        text = ast.literal_eval(after.value) if isinstance(after, ast.Expr) else ""
        default = ast.unparse(node.value)
        name = ast.unparse(node.target)
        found.append(f"| `{name}` | {kind} | {default} | {' '.join(str(text).split())} |")
    return found


def document(text: str) -> str:
    """Return docs/lab.md with the table as the settings are now."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    body = "\n".join(["| setting | values | default | what |", "|---|---|---|---|", *rows()])
    return f"{head}{BEGIN}\n{body}\n{END}{tail}"


if __name__ == "__main__":
    file = ROOT / "docs" / "lab.md"
    file.write_text(document(file.read_text()))
    sys.stdout.write(f"{len(rows())} settings\n")
