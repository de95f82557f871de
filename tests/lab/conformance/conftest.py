"""Clients that nobody in this project wrote: az, the JavaScript SDKs, curl.

`.ci/conformance` installs az and the JavaScript packages under `build/`; where they are
absent the tests of that client are skipped. Every command is recorded with the requests
that it made, for the table in docs/lab.md (see `table.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drengine.lab import commands

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build"
AZ_PYTHON = BUILD / "azure-cli" / "bin" / "python"
AZ = BUILD / "azure-cli" / "bin" / "az"
JAVASCRIPT = BUILD / "javascript"
WORKER = Path(__file__).with_name("az_worker.py")
INSTALL = "run .ci/conformance to install it"


@dataclass
class Result:
    """What one command printed and which requests it made."""

    code: int
    out: str
    err: str
    calls: list[dict[str, Any]]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Recorder:
    """Collects the rows of the conformance table for one client and module."""

    client: str
    file: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, command: str, result: Result, expected: int) -> None:
        self.rows.append(
            {
                "client": self.client,
                "command": command,
                "requests": _requests(result.calls),
                "code": result.code,
                "expected": expected,
            }
        )

    def add_calls(self, command: str, calls: list[dict[str, Any]], code: int) -> None:
        self.add(command, Result(code, "", "", calls), code)

    def save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.rows, indent=1))


def _requests(calls: list[dict[str, Any]]) -> list[str]:
    """Return method, path and status of each request, repeats left out."""
    found: dict[str, None] = {}
    for call in calls:
        if not call["method"] or not call["path"]:
            continue
        where = call["host"].split(".", 1)[1] if "." in call["host"] else call["host"]
        found[f"{call['method']} {where}{call['path']} {call['status']}"] = None
    return list(found)


def calls_of_operator(lab: Any, after: int) -> list[dict[str, Any]]:
    """Return the requests of the operator; instances make requests of their own."""
    operator = lab.status["object_id"]
    return [
        row
        for row in commands.log(lab.home, after)
        if row["method"] and row["principal"] in {operator, None}
    ]


class Az:
    """The az command line on one lab, in one long-lived process."""

    def __init__(self, lab: Any, recorder: Recorder) -> None:
        self.lab = lab
        self.recorder = recorder
        self._process = subprocess.Popen(
            [str(AZ_PYTHON), "-W", "ignore", str(WORKER)],
            env=commands.env(lab.home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=lab.home,
        )

    def __call__(self, line: str, *more: str, code: int = 0, json_: bool = True) -> Any:
        """Run a command given as words; return its JSON, or the result where it must fail."""
        result = self.run([*line.split(), *more])
        self.recorder.add("az " + _shown([*line.split(), *more]), result, code)
        assert result.code == code, f"az {line}: {result.code} {result.err[-800:]}"
        if code:
            return result
        return result.json if json_ and result.out.strip() else result.out

    def run(self, arguments: list[str]) -> Result:
        before = self.lab.last_seq()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"az ended at: {' '.join(arguments)}"
        answer = json.loads(line)
        return Result(answer["code"], answer["out"], answer["err"], self.calls(before))

    def calls(self, after: int) -> list[dict[str, Any]]:
        """Return the operator's requests since a number of the call log."""
        return calls_of_operator(self.lab, after)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self.recorder.save()


def _shown(arguments: list[str]) -> str:
    """Return command words and option names, without values."""
    words = []
    for argument in arguments:
        if (
            argument.startswith("--")
            or (len(argument) == 2 and argument.startswith("-"))
            or not any(word.startswith("-") for word in words)
        ):
            words.append(argument)
    return " ".join(words)


@pytest.fixture(scope="module")
def az(lab: Any, request: pytest.FixtureRequest) -> Iterator[Az]:
    """The az command line, signed in to the module's lab."""
    if not AZ_PYTHON.exists():
        pytest.skip(f"azure-cli is not installed: {INSTALL}")
    name = Path(str(request.module.__file__)).stem
    recorder = Recorder("az", BUILD / "conformance" / f"{name}.json")
    client = Az(lab, recorder)
    yield client
    client.close()


@pytest.fixture(scope="module")
def record(lab: Any, request: pytest.FixtureRequest) -> Iterator[Callable[[str, str, int], None]]:
    """Write down which requests a client made since a number of the call log."""
    stem = Path(str(request.module.__file__)).stem
    recorders: dict[str, Recorder] = {}

    def add(client: str, name: str, after: int) -> None:
        file = BUILD / "conformance" / f"{stem}-{client}.json"
        recorder = recorders.setdefault(client, Recorder(client, file))
        recorder.add_calls(name, calls_of_operator(lab, after), 0)

    yield add
    for recorder in recorders.values():
        recorder.save()


@pytest.fixture(scope="module")
def az_binary() -> str:
    """The path of the az program itself."""
    if not os.access(AZ, os.X_OK):
        pytest.skip(f"azure-cli is not installed: {INSTALL}")
    return str(AZ)


@pytest.fixture(scope="module")
def javascript() -> Path:
    """The folder with the JavaScript packages."""
    if not (JAVASCRIPT / "node_modules" / "@azure" / "identity").exists():
        pytest.skip(f"the JavaScript SDKs are not installed: {INSTALL}")
    return JAVASCRIPT
