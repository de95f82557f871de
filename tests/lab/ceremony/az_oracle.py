"""Runs in azure-cli's own environment: makes restore blobs with azure-cli's own code.

Reads a job a line on standard input (JSON) and answers a line each; one process for all
jobs, since loading azure-cli takes longer than a blob.
"""

from __future__ import annotations

import json
import sys

from azure.cli.command_modules.keyvault.custom import _security_domain_restore_blob


def main():
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = {"blob": _security_domain_restore_blob(*job)}
        except BaseException as error:  # its errors are of every kind
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
