"""Runs in azure-cli's own environment: makes restore blobs with azure-cli's own code.

Reads a job a line on standard input (JSON) and answers a line each; one process for all
jobs, since loading azure-cli takes longer than a blob.
"""

from __future__ import annotations

import functools
import json
import sys

from azure.cli.command_modules.keyvault import custom
from azure.cli.command_modules.keyvault.custom import _security_domain_restore_blob

# The check of an RSA key takes most of the time; the same ten keys come again and again.
custom.load_pem_private_key = functools.cache(custom.load_pem_private_key)


def main():
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = {"blob": _security_domain_restore_blob(*job)}
        except BaseException as error:  # its errors are of every kind
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
