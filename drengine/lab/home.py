"""The lab home: one folder (0700) that holds everything of a lab.

```
lab.db  clock.json  settings.json  estate.json   state, virtual time, choices, specification
ca.pem  tls/                                     the lab's authority (tls/ca.key is 0600)
identity.json                                    made-up ids and the client secret (0600)
custodians/                                      certificates, keys (0600), security domain
azure/                                           AZURE_CONFIG_DIR of the operator
server.json  server.lock  server.log             the running server
```
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drengine.errors import InputFileError
from drengine.lab.tls import write_private


@dataclass(frozen=True, slots=True)
class LabIdentity:
    """The ids that stand for tenant, subscription and operator, and the operator's secret."""

    tenant: str
    subscription: str
    client_id: str
    client_secret: str
    object_id: str


@dataclass(frozen=True, slots=True)
class LabHome:
    """Paths inside one lab home."""

    root: Path

    @property
    def database(self) -> Path:
        """The state of all services."""
        return self.root / "lab.db"

    @property
    def clock(self) -> Path:
        """The virtual clock."""
        return self.root / "clock.json"

    @property
    def settings(self) -> Path:
        """The lab's settings."""
        return self.root / "settings.json"

    @property
    def estate(self) -> Path:
        """The specification the estate is built from."""
        return self.root / "estate.json"

    @property
    def ca(self) -> Path:
        """The certificate of the lab's authority."""
        return self.root / "ca.pem"

    @property
    def custodians(self) -> Path:
        """The security domain with its custodians' certificates and keys."""
        return self.root / "custodians"

    @property
    def azure_config(self) -> Path:
        """The operator's Azure profile, thrown away with the lab."""
        return self.root / "azure"

    @property
    def server(self) -> Path:
        """Process id and port of the running server."""
        return self.root / "server.json"

    @property
    def log(self) -> Path:
        """What the server wrote to its standard error."""
        return self.root / "server.log"

    def make(self) -> None:
        """Make the folder, for its owner only."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)
        self.azure_config.mkdir(mode=0o700, exist_ok=True)

    def require(self) -> None:
        """Check that this is a lab home.

        Raises:
            InputFileError: it is not.
        """
        if not (self.root / "identity.json").exists():
            raise InputFileError(
                f"looking for a lab in {self.root}: there is none.",
                hint=f"Run 'drengine lab up --home {self.root}' to make one.",
            )

    def identity(self) -> LabIdentity:
        """Return the lab's ids; they are made up at the first call and stay."""
        file = self.root / "identity.json"
        if not file.exists():
            fresh = LabIdentity(
                tenant=str(uuid.uuid4()),
                subscription=str(uuid.uuid4()),
                client_id=str(uuid.uuid4()),
                client_secret=secrets.token_urlsafe(32),
                object_id=str(uuid.uuid4()),
            )
            write_private(file, json.dumps(asdict(fresh)).encode())
        return LabIdentity(**json.loads(file.read_bytes()))

    def server_document(self) -> dict[str, Any]:
        """Return what the server last wrote about itself, empty where it never did."""
        with suppress(FileNotFoundError, ValueError):
            return dict(json.loads(self.server.read_bytes()))
        return {}

    def write_server(self, document: dict[str, Any]) -> None:
        """Replace what the server says about itself."""
        temporary = self.server.with_name(f".server.{os.getpid()}")
        temporary.write_text(json.dumps(document))
        temporary.replace(self.server)

    def lock(self) -> int | None:
        """Take the lock of the running server; None where another process has it.

        The lock dies with the process that holds it, also when it is killed.
        """
        descriptor = os.open(self.root / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def is_running(self) -> bool:
        """Return whether a server has the lock."""
        descriptor = self.lock()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False
