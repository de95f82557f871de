"""A lab without sockets: the real services on a real store, time moved by hand.

`InProcess` stands where the loopback client stands and hands requests to the same
dispatcher; what it does not have is a wire.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from drengine.lab import arm_scope
from drengine.lab.blob import domain as storage
from drengine.lab.blob import routes as blob
from drengine.lab.clock import LabClock
from drengine.lab.dispatch import Dispatcher, RawRequest
from drengine.lab.entra import mint_token
from drengine.lab.faults import FaultBook
from drengine.lab.hsm import keystore, roles
from drengine.lab.hsm import routes as hsm
from drengine.lab.keypool import KeyPool
from drengine.lab.settings import Settings
from drengine.lab.spec import EstateSpec, KeySpec
from drengine.lab.sql import estate
from drengine.lab.sql import routes as sql
from drengine.lab.store import Store, Tx
from drengine.lab.wire import Response
from drengine.lab.world import Lab

SUBSCRIPTION = "6f1c1d0e-0000-4000-8000-000000000001"
TENANT = "6f1c1d0e-0000-4000-8000-000000000002"
OPERATOR = "6f1c1d0e-0000-4000-8000-000000000003"
SETTINGS = Settings(enforce_recovery_level=False)
SPEC = EstateSpec(keys=(KeySpec("sqlmi-tde", versions=2), KeySpec("sqlmi-tde-hr", size=3072)))


class InProcess:
    """Answers requests from a dispatcher; a host in `down` does not answer at all."""

    def __init__(self) -> None:
        self.dispatcher: Dispatcher | None = None
        self.down: set[str] = set()
        self.sent: list[tuple[str, str]] = []

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_seconds: float = 10,
    ) -> Response:
        del timeout_seconds
        parts = urlsplit(url)
        host = parts.hostname or ""
        self.sent.append((method, url))
        if host in self.down or self.dispatcher is None:
            raise ConnectionError(host)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        raw = RawRequest(method, host, target, dict(headers or {}), body)
        return self.dispatcher.answer(raw)


@dataclass
class World:
    """What a test drives: requests, time, and the state of the HSMs."""

    lab: Lab
    wire: InProcess

    def arm(
        self, method: str, path: str, body: object = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        token = _token(self.lab, OPERATOR, "https://management.azure.com", "operator")
        url = path if path.startswith("https:") else f"https://management.azure.com{path}"
        if "api-version" not in url:
            url += "?api-version=2025-01-01"
        headers = {"authorization": f"Bearer {token}"}
        sent = json.dumps(body).encode() if body is not None else b""
        answer = self.wire.request(method, url, headers=headers, body=sent)
        return answer.status, json.loads(answer.body) if answer.body else None, answer.headers

    def finished(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Send a request, let time pass, and return the last poll's body."""
        status, first, headers = self.arm(method, path, body)
        assert status == 202, (status, first)
        self.advance(400)
        status, last, _ = self.arm("GET", headers["azure-asyncoperation"])
        assert status == 200
        assert last["status"] != "InProgress"
        return dict(last)

    def instance(self, name: str) -> str:
        return (
            f"/subscriptions/{SUBSCRIPTION}/resourceGroups/contoso-dr"
            f"/providers/Microsoft.Sql/managedInstances/{name}"
        )

    def group(self, location: str, name: str = "contoso-fog") -> str:
        return (
            f"/subscriptions/{SUBSCRIPTION}/resourceGroups/contoso-dr/providers/Microsoft.Sql"
            f"/locations/{location}/instanceFailoverGroups/{name}"
        )

    def canary(self, instance: str, database: str) -> tuple[int, Any]:
        fqdn = self.arm("GET", self.instance(instance))[1]["properties"]["fullyQualifiedDomainName"]
        answer = self.wire.request("GET", f"https://{fqdn}/databases/{database}/canary")
        return answer.status, json.loads(answer.body)

    def statuses(self, instance: str) -> dict[str, str]:
        body = self.arm("GET", f"{self.instance(instance)}/databases")[1]
        return {row["name"]: row["properties"]["status"] for row in body["value"]}

    def advance(self, seconds: float) -> None:
        """Let virtual time pass; every job runs at its own time."""
        end = self.lab.clock.now_ms() + int(seconds * 1000)
        while True:
            with self.lab.store.transaction() as tx:
                job = next((one for one in tx.jobs() if one.due_ms <= end), None)
            if job is None:
                break
            self._move_to(job.due_ms)
            {**hsm.JOBS, **sql.JOBS}[job.name](self.lab, job.payload)
            with self.lab.store.transaction() as tx:
                tx.finish_job(job.id)
        self._move_to(end)

    def _move_to(self, at_ms: int) -> None:
        if at_ms > self.lab.clock.now_ms():
            self.lab.clock.set(now_ms=at_ms)

    def set(self, **changes: Any) -> None:
        self.lab.settings = replace(self.lab.settings, **changes)

    def kill_hsm(self, name: str = "contoso--hsm") -> None:
        with self.lab.store.transaction() as tx:
            doc = tx.get("hsm", name)
            assert doc is not None
            tx.put("hsm", name, doc | {"phase": "deleted"})

    def revive_hsm(self, name: str = "contoso--hsm") -> None:
        with self.lab.store.transaction() as tx:
            doc = tx.get("hsm", name)
            assert doc is not None
            tx.put("hsm", name, doc | {"phase": "active"})

    def copy_hsm(self, name: str, *, fresh_keys: bool = False) -> None:
        """Make a second HSM: with the same keys and roles, or with other key material."""
        with self.lab.store.transaction() as tx:
            make_hsm(tx, name)
            for key, doc in list(tx.find("hsm.key", "contoso--hsm/")):
                copied = doc
                if fresh_keys:
                    versions = [
                        one | {k: other[k] for k in ("material", "public")}
                        for one, other in zip(
                            doc["versions"], reversed(doc["versions"]), strict=True
                        )
                    ]
                    copied = doc | {"versions": versions}
                tx.put("hsm.key", key.replace("contoso--hsm", name), copied)
            for key, doc in list(tx.find("hsm.role", "contoso--hsm/")):
                tx.put("hsm.role", key.replace("contoso--hsm", name), doc)

    def key_uri(self, hsm: str, name: str = "sqlmi-tde", version: int = -1) -> str:
        with self.lab.store.transaction() as tx:
            doc = tx.get("hsm.key", f"{hsm}/{name}")
        assert doc is not None
        return (
            f"https://{hsm}.managedhsm.azure.net/keys/{name}/{doc['versions'][version]['version']}"
        )

    def link(self, instance: str, uri: str) -> dict[str, Any]:
        path = f"{self.instance(instance)}/keys/{key_name(uri)}"
        return self.finished(
            "PUT", path, {"properties": {"serverKeyType": "AzureKeyVault", "uri": uri}}
        )

    def protect(self, instance: str, uri: str) -> dict[str, Any]:
        body = {"properties": {"serverKeyName": key_name(uri), "serverKeyType": "AzureKeyVault"}}
        return self.finished("PUT", f"{self.instance(instance)}/encryptionProtector/current", body)


def key_name(uri: str) -> str:
    parts = uri.split("/")
    return f"{parts[2].split('.')[0]}_{parts[4]}_{parts[5]}"


def _token(lab: Lab, oid: str, audience: str, kind: str) -> str:
    return mint_token(
        tenant=lab.tenant,
        object_id=oid,
        app_id=oid,
        audience=audience,
        kind=kind,
        lifetime_seconds=3600,
    )


def make_hsm(tx: Tx, name: str) -> None:
    arm_id = (
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/contoso-dr"
        f"/providers/Microsoft.KeyVault/managedHSMs/{name}"
    )
    properties = {"softDeleteRetentionInDays": 7, "enablePurgeProtection": False}
    tx.put("arm.hsm", arm_id.lower(), {"resource": {"properties": properties}})
    tx.put(
        "hsm",
        name,
        {
            "name": name,
            "arm_id": arm_id,
            "location": "westeurope",
            "phase": "active",
            "restoring": None,
        },
    )


@pytest.fixture(scope="session")
def materials() -> Iterator[Callable[[int], list[bytes]]]:
    """RSA keys that all tests of a run share: making them is slow, having them is not."""
    pool = KeyPool()
    made: dict[int, list[bytes]] = {}

    def keys(bits: int) -> list[bytes]:
        if bits not in made:
            pool.fill(bits, 2)
            made[bits] = [pool.take(bits), pool.take(bits)]
        return made[bits]

    yield keys
    pool.close()


@pytest.fixture
def world(tmp_path: Path, materials: Callable[[int], list[bytes]]) -> Iterator[World]:
    clock = LabClock(tmp_path / "clock.json")
    clock.set(speed=0.001)  # time stands still but for `advance`
    store = Store(tmp_path / "lab.db", clock.now_ms)
    wire = InProcess()
    lab = Lab(
        home=tmp_path,
        store=store,
        clock=clock,
        settings=SETTINGS,
        https=wire,  # type: ignore[arg-type]
        tls=None,  # type: ignore[arg-type]
        keys=KeyPool(),
        faults=FaultBook(store),
        tenant=TENANT,
    )
    wire.dispatcher = Dispatcher(lab, (*hsm.ROUTES, *sql.ROUTES, *blob.ROUTES))
    with store.transaction() as tx:
        tx.put(arm_scope.META, arm_scope.ESTATE, {"subscription": SUBSCRIPTION})
        arm_scope.add_groups(tx, ("contoso-dr", "other"), "westeurope")
        make_hsm(tx, "contoso--hsm")
        for key in SPEC.keys:
            for material in materials(key.size)[: key.versions]:
                version = keystore.new_version("RSA-HSM", material, tx.now_ms)
                keystore.add_version(tx, "contoso--hsm", key.name, version)
        for principal in estate.principal_ids(SUBSCRIPTION, SPEC).values():
            roles.assign(
                tx,
                "contoso--hsm",
                principal_id=principal,
                definition=roles.SERVICE_ENCRYPTION_USER,
                scope="/keys",
                immediate=True,
            )
        storage.create_account(
            tx,
            subscription=SUBSCRIPTION,
            resource_group="contoso-dr",
            account="contoso-backups",
            location="westeurope",
        )
    estate.build(lab, SPEC)
    yield World(lab, wire)
    store.close()
