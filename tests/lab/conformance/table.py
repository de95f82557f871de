"""Writes the conformance table into docs/lab.md: `python tests/lab/conformance/table.py`.

The rows are what the last run of the suite recorded under build/conformance/: the command,
the requests it made (names and ids of that run shortened), and its result.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"
SHORT = (
    (r"/subscriptions/[^/ ]+/resourceGroups/[^/ ]+", "{group}"),
    (r"/subscriptions/[^/ ]+", "{sub}"),
    (r"[0-9a-f]{8}-[0-9a-f-]{27}", "{id}"),
    (r"[0-9a-f]{32}", "{id}"),
    (r"mhsm-[A-Za-z0-9-]+-\d{16}", "{folder}"),
    (r"/providers/Microsoft\.", "/"),
    (r"(GET|PUT|POST|PATCH|DELETE|HEAD) (management\.azure\.com|azure\.com)", r"\1 ARM"),
    (r" microsoftonline\.com\{?", " login{"),
)


def shortened(request: str) -> str:
    for pattern, text in SHORT:
        request = re.sub(pattern, text, request)
    return request.replace("login{/", "login/").replace("login{", "login/{")


def rows() -> list[str]:
    seen: dict[tuple[str, str, bool], str] = {}
    for file in sorted((ROOT / "build" / "conformance").glob("*.json")):
        for row in json.loads(file.read_text()):
            works = row["expected"] == 0
            key = (row["client"], row["command"], works)
            asked = list(dict.fromkeys(shortened(one) for one in row["requests"]))
            result = "works" if works else f"refused as it should be (exit {row['expected']})"
            text = "; ".join(asked) or "none"
            command = row["command"].replace("|", "\\|")
            seen.setdefault(key, f"| `{command}` | {text} | {result} |")
    return list(seen.values())


def main() -> int:
    file = ROOT / "docs" / "lab.md"
    text = file.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    found = rows()
    if not found or not rest:
        sys.stderr.write("nothing recorded, or docs/lab.md has no place for the table\n")
        return 1
    body = "\n".join(["| command | requests | result |", "|---|---|---|", *found])
    file.write_text(f"{head}{BEGIN}\n{body}\n{END}{tail}")
    sys.stdout.write(f"{len(found)} rows\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
