"""Every recorded exchange, sent again to a lab that was seeded to match.

Compared are the status, the headers that clients depend on, and the JSON structure: member
names, types, what is null. Ids that the service makes up are learnt from each answer and
put into the requests that follow. The clock stands still and is moved only before a poll
whose recorded answer was the last one, so that "in progress" is compared too.

What remains different is listed in DIFFERENCES with its reason; a difference that is not
listed fails, and so does a line of the list that is not needed any more.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.unseal import open_domain, open_share
from drengine.lab import commands, spec
from drengine.lab.hsm.jose import derive, seal_direct, seal_to

AZURE = Path(__file__).resolve().parents[4] / "shared" / "azure"
RECORDINGS = AZURE / "recordings"
pytestmark = pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings are not here")

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
ZONE = ".managedhsm.azure.net"
HEADERS = ("azure-asyncoperation", "location", "retry-after", "www-authenticate")
RUNNING = frozenset({"InProgress", "Provisioning", "Updating", "Deleting", "Restoring"})
LONG_SECONDS = 4000
FILES = (
    sorted(file.stem for file in (RECORDINGS / "keyvault").glob("*.yaml"))
    if RECORDINGS.exists()
    else []
)

OLD = "the service of 2020 answered so; the lab answers as the one of 2023 does"
LATER = (
    r"#\d+ \$(\.value\[\])?\.(systemData|properties\."
    r"(networkAcls|publicNetworkAccess|regions|securityDomainProperties)) is not in the recording"
)
DIFFERENCES = (
    (
        "2021-02.test_keyvault_hsm_(full_backup_restore|selective_key_restore)",
        r"#\d+ \$\.error is nothing, recorded object",
        OLD + ": a running job had an error object whose members were null",
    ),
    ("2021-02.test_keyvault_hsm_(mgmt|security_domain)", LATER, OLD + ": without these members"),
    (
        "2021-02.test_keyvault_hsm_security_domain",
        r"#(3|5|6) (status 202, recorded 200|header .*|\$ is nothing, recorded object)",
        OLD + ": download, deletion and creation were done when they answered",
    ),
    (
        "test_sql_mi_tdebyok",
        r"#14 .*",
        "managed instances are made with the estate; the lab does not delete them",
    ),
    (
        "test_sql_instance_failover_group_mgmt",
        r"#0 \$\.(properties\.administrators|tags\.fog) is missing",
        "the recorded instance had a tag and an administrator group of its own",
    ),
    (
        "test_sql_instance_failover_group_mgmt",
        r"#2 header (azure-asyncoperation|location): True, recorded False",
        "the trimmed recording keeps neither of this answer",
    ),
    (
        "2021-02.test_keyvault_hsm_security_domain",
        r"#1[345] \$\.status_?[dD]etails is (missing|not in the recording)",
        OLD + ": the member was statusDetails",
    ),
)
"""Recording, difference (both regular expressions for the whole), reason."""


@dataclass
class Exchange:
    """One recorded request and its answer."""

    number: int
    method: str
    url: str
    body: Any
    status: int
    headers: dict[str, str]
    answer: Any

    @property
    def ended(self) -> bool:
        """Whether the answer is not one of something still under way."""
        if self.status == 202:
            return False
        found = self.answer if isinstance(self.answer, dict) else {}
        properties = found.get("properties") or {}
        state = properties.get("provisioningState") if isinstance(properties, dict) else None
        return found.get("status") not in RUNNING and state not in RUNNING


@dataclass
class Replay:
    """A recording on its way through a lab."""

    lab: Any
    name: str
    ids: dict[str, str] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    domain: str = ""
    active: set[str] = field(default_factory=set)
    operation: str = ""
    """Where the operation of the last answer can be polled."""

    def note(self, one: Exchange, text: str) -> None:
        self.found.append(f"#{one.number} {text}")

    def advance(self) -> None:
        commands.set_clock(self.lab.home, advance_seconds=LONG_SECONDS)

    def send(self, one: Exchange, url: str, body: Any) -> tuple[int, dict[str, str], Any]:
        host = urlsplit(url).hostname or ""
        audience = "https://management.azure.com"
        for zone in ("managedhsm.azure.net", "vault.azure.net"):
            if host.endswith(zone):
                audience = f"https://{zone}"
        token = self.lab.token(audience) if one.status != 401 else ""
        ensure_group(self.lab, url)
        status, headers, answer = self.lab.call(one.method, url, body, token=token)
        return status, dict(headers), answer

    def rewritten(self, text: str) -> str:
        """Put our ids in the place of recorded ones."""
        if text in self.ids:
            return self.ids[text]
        text = text.replace(SUBSCRIPTION, self.lab.status["subscription"])
        for old, new in self.ids.items():
            if len(old) > 40:
                text = text.replace(old, new)
        parts = re.split(r"([/?&=_])", text)
        return "".join(self.ids.get(part, part) for part in parts)

    def request_body(self, value: Any) -> Any:
        storage = self.lab.status["storage"]
        if isinstance(value, dict):
            found = {name: self.request_body(part) for name, part in value.items()}
            if "storageResourceUri" in found:
                base = f"https://{storage['account']}.blob.core.windows.net"
                found["storageResourceUri"] = f"{base}/{storage['container']}"
                found["token"] = storage["sas"]
            if "initialAdminObjectIds" in found:
                operator = self.lab.status["object_id"]
                self.ids.update(dict.fromkeys(value["initialAdminObjectIds"], operator))
                found["initialAdminObjectIds"] = [operator]
            return found
        if isinstance(value, list):
            return [self.request_body(part) for part in value]
        return self.rewritten(value) if isinstance(value, str) else value

    def learn(self, theirs: Any, ours: Any) -> None:
        """Remember which of our ids stands for which recorded one."""
        if isinstance(theirs, dict) and isinstance(ours, dict):
            for name in theirs.keys() & ours.keys():
                self.learn(theirs[name], ours[name])
        elif isinstance(theirs, list) and isinstance(ours, list):
            for first, second in zip(theirs, ours, strict=False):
                if isinstance(first, str):
                    self.learn(first, second)
        elif isinstance(theirs, str) and isinstance(ours, str) and theirs != ours:
            self.learn_text(theirs, ours)

    def learn_text(self, theirs: str, ours: str) -> None:
        if not theirs.startswith("https://"):
            if len(theirs) >= 8 and " " not in theirs:
                self.ids[theirs] = ours
            return
        first, second = (re.split(r"[/?&]|kv-operation=", one) for one in (theirs, ours))
        if len(first) == len(second):
            for old, new in zip(first[3:], second[3:], strict=True):
                if old != new and len(old) >= 8:
                    self.ids[old] = new


def ensure_group(lab: Any, url: str) -> None:
    """Make the resource group that a recorded request lies in; the recordings left that out."""
    found = re.match(r"(?i)https://management\.azure\.com/[^/]+/[^/]+/resourceGroups/[^/?]+", url)
    if found is not None:
        lab.call("PUT", f"{found[0]}?api-version=2021-04-01", {"location": "westeurope"})


def load(file: Path) -> list[Exchange]:
    if file.suffix == ".json":
        rows = json.loads(file.read_text())["interactions"]
    else:
        rows = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)["interactions"]
    return [_exchange(number, row) for number, row in enumerate(rows)]


def _exchange(number: int, row: dict[str, Any]) -> Exchange:
    request, response = row["request"], row["response"]
    status = response["status"]
    headers = {
        name.lower(): value[0] if isinstance(value, list) else value
        for name, value in (response.get("headers") or {}).items()
    }
    return Exchange(
        number,
        request["method"],
        request.get("uri") or request["url"],
        _json(request.get("body")),
        status["code"] if isinstance(status, dict) else status,
        headers,
        _json(response.get("body")),
    )


def _json(body: Any) -> Any:
    if not isinstance(body, str):
        return body or None
    try:
        return json.loads(body)
    except ValueError:
        return body or None


def differences(theirs: Any, ours: Any, where: str = "$") -> Iterator[str]:
    """Yield what differs in structure."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in sorted(theirs.keys() - ours.keys()):
            yield f"{where}.{name} is missing"
        for name in sorted(ours.keys() - theirs.keys()):
            yield f"{where}.{name} is not in the recording"
        for name in theirs.keys() & ours.keys():
            yield from differences(theirs[name], ours[name], f"{where}.{name}")
    elif isinstance(theirs, list) and isinstance(ours, list):
        if theirs and not ours:
            yield f"{where} is empty"
        elif theirs and ours:
            yield from differences(theirs[0], ours[0], f"{where}[]")
    elif kind(theirs) != kind(ours):
        yield f"{where} is {kind(ours)}, recorded {kind(theirs)}"


def kind(value: Any) -> str:
    if value is None or value in ("", b""):
        return "nothing" if value is None or isinstance(value, bytes) else "text"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return {"dict": "object", "list": "list", "str": "text", "bytes": "bytes"}[type(value).__name__]


def keys_and_certificates() -> list[tuple[Any, x509.Certificate]]:
    found = []
    for number in (1, 2, 3):
        der = base64.b64decode((AZURE / f"vectors/custodian_{number}.pkcs8.b64").read_text())
        pem = (AZURE / f"vectors/custodian_{number}.cer").read_bytes()
        key = serialization.load_der_private_key(der, None)
        found.append((key, x509.load_pem_x509_certificate(pem)))
    return found


def restore_blob(domain: str, transfer_key: str) -> str:
    """Open a domain with the published test keys and wrap it for an exchange key."""
    opened = parse_security_domain(domain.encode())
    shares = [open_share(opened, cert, key) for key, cert in keys_and_certificates()[:2]]
    master = secrets.token_bytes(32)
    data = [
        {
            "compact_jwe": seal_direct(derive(master, part.tag), part.plaintext, part.tag),
            "tag": part.tag,
        }
        for part in open_domain(opened, shares)
    ]
    jwk = json.loads(transfer_key)
    certificate = x509.load_der_x509_certificate(base64.b64decode(jwk["x5c"][0]))
    wrapped = {
        "enc_key": seal_to(certificate.public_key(), master, "not used"),  # type: ignore[arg-type]
        "x5t_256": jwk["x5t#S256"],
    }
    return json.dumps({"EncData": {"data": data, "kdf": "sp108_kdf"}, "WrappedKey": wrapped})


def download_body() -> dict[str, Any]:
    certificates = [
        {"x5c": [base64.b64encode(cert.public_bytes(serialization.Encoding.DER)).decode()]}
        for _, cert in keys_and_certificates()
    ]
    return {"certificates": certificates, "required": 2}


def wait(replay: Replay, url: str, *, arm: bool) -> None:
    end = time.monotonic() + 20
    while True:
        replay.advance()
        status, _, body = replay.lab.call("GET", url)
        if status != 202 and (arm or body.get("status") != "InProgress"):
            return
        assert time.monotonic() < end, url
        time.sleep(0.05)


def seed_hsm(replay: Replay, name: str, group: str, location: str) -> None:
    found = replay.lab.status
    url = (
        f"https://management.azure.com/subscriptions/{found['subscription']}/resourceGroups/{group}"
        f"/providers/Microsoft.KeyVault/managedHSMs/{name}?api-version=2023-07-01"
    )
    ensure_group(replay.lab, url)
    properties = {
        "tenantId": found["tenant"],
        "initialAdminObjectIds": [found["object_id"]],
        "softDeleteRetentionInDays": 7,
    }
    status, headers, body = replay.lab.call(
        "PUT", url, {"location": location, "properties": properties}
    )
    assert status == 202, body
    wait(replay, headers["location"], arm=True)


def activate(replay: Replay, name: str) -> None:
    base = f"https://{name}{ZONE}"
    url = f"{base}/securitydomain/download?api-version=7.5"
    status, headers, body = replay.lab.call("POST", url, download_body())
    assert status == 202, body
    wait(replay, headers["azure-asyncoperation"], arm=False)
    grant(replay, name)
    replay.active.add(name)


def grant(replay: Replay, name: str) -> None:
    """Let the operator use and purge keys."""
    base = f"https://{name}{ZONE}"
    prefix = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions"
    for number, role in enumerate(
        ("21dbd100-6940-42c2-9190-5d6cb909625b", "515eb02d-2335-4d2d-92f2-b1cbdf9c3778")
    ):
        name_ = f"00000000-0000-0000-0000-00000000000{number}"
        wanted = {
            "roleDefinitionId": f"{prefix}/{role}",
            "principalId": replay.lab.status["object_id"],
        }
        put = f"{base}/providers/Microsoft.Authorization/roleAssignments/{name_}?api-version=7.4"
        assert replay.lab.call("PUT", put, {"properties": wanted})[0] == 201


def seed(replay: Replay, exchanges: list[Exchange]) -> None:
    """Make the HSMs that a recording uses without creating them."""
    groups, locations, made, used = {}, {}, set(), []
    for one in exchanges:
        host = urlsplit(one.url).hostname or ""
        path = urlsplit(one.url).path
        arm = re.search(r"resourceGroups/([^/]+)/.*/managedHSMs/([^/]+)$", path)
        name = host.removesuffix(ZONE) if host.endswith(ZONE) else arm[2] if arm else ""
        if arm:
            groups[arm[2]] = arm[1]
            if one.method == "PUT" and arm[2] not in used:
                made.add(arm[2])
        if isinstance(one.answer, dict) and "/managedHSMs/" in str(one.answer.get("id")):
            locations.setdefault(one.answer["name"], one.answer["location"])
        if name and name not in used:
            used.append(name)
    for name in used:
        if name not in made:
            seed_hsm(replay, name, groups.get(name, "seeded"), locations.get(name, "uksouth"))


def prepare(replay: Replay, one: Exchange) -> None:
    """Bring about what happened outside the recording just before an exchange."""
    host = urlsplit(one.url).hostname or ""
    name = host.removesuffix(ZONE)
    keys_used = host.endswith(ZONE) and "/securitydomain/" not in one.url
    properties = one.answer.get("properties") if isinstance(one.answer, dict) else None
    domain = (
        (properties or {}).get("securityDomainProperties") if isinstance(properties, dict) else None
    )
    if domain and domain.get("activationStatus") == "Active":
        name, keys_used = one.answer["name"], True
    if keys_used and name not in replay.active:
        _, _, state = replay.lab.call("GET", f"https://{name}{ZONE}/settings?api-version=7.4")
        if "until it is activated" in json.dumps(state):
            activate(replay, name)
        elif replay.name.startswith("2021"):
            grant(replay, name)  # the operator of 2020 had been given rights before
        replay.active.add(name)
    if one.status == 504:
        commands.add_fault(replay.lab.home, name="poll-504")


def perform(replay: Replay, one: Exchange) -> None:
    """Send one recorded request and write down what differs."""
    prepare(replay, one)
    url = replay.rewritten(one.url)
    body = replay.request_body(one.body)
    if url.split("?")[0].endswith("/securitydomain/upload") and one.method == "POST" and body:
        transfer = replay.lab.call("GET", url)[2]["transfer_key"]
        body = {"value": restore_blob(replay.domain, transfer)}
    if "/decrypt?" in url and body.get("alg") == "RSA-OAEP":
        # the recorded client encrypted with the recorded key's public part
        clear = {"alg": "RSA-OAEP", "value": one.answer["value"]}
        body = replay.lab.call("POST", url.replace("/decrypt?", "/encrypt?"), clear)[2]
    status, headers, answer = replay.send(one, url, body)
    end = time.monotonic() + 15
    while one.method == "GET" and one.ended and time.monotonic() < end:
        ours = Exchange(one.number, one.method, url, None, status, headers, answer)
        if ours.ended or one.status in {401, 504}:
            break
        replay.advance()
        time.sleep(0.05)
        status, headers, answer = replay.send(one, url, body)
    compare(replay, one, status, headers, answer)
    replay.operation = headers.get("azure-asyncoperation", "")
    if "/securitydomain/download" in url and status == 202:
        replay.domain = answer["value"]


def compare(replay: Replay, one: Exchange, status: int, headers: Any, answer: Any) -> None:
    if status != one.status:
        replay.note(one, f"status {status}, recorded {one.status}")
    for name in HEADERS:
        if (name in headers) != (name in one.headers):
            replay.note(one, f"header {name}: {name in headers}, recorded {name in one.headers}")
        elif name in {"azure-asyncoperation", "location"} and name in headers:
            replay.learn(one.headers[name], headers[name])
    ours = answer if answer not in (b"", "") else None
    if one.status == 401:
        return
    for text in differences(one.answer, ours):
        replay.note(one, text)
    if one.method != "GET" or "value" not in (one.answer if isinstance(one.answer, dict) else {}):
        replay.learn(one.answer, ours)


@pytest.fixture
def replay_lab(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A lab with real time standing still, and instances like the recorded ones."""
    start = request.getfixturevalue("start_lab")
    group = "CustomerExperienceTeam_RG"
    standalone = (
        spec.InstanceSpec("clitestmi000001", "westcentralus", (), "", group),
        spec.InstanceSpec("mi-primary-wcus", "westcentralus", (), "", group),
        spec.InstanceSpec("mi-mdcs-cx-secondary", "centralus", (), "", "mdcs-cx-secondary-vnet"),
    )
    wanted = spec.EstateSpec(keys=(spec.KeySpec("one"),), groups=(), standalone=standalone)
    settings = {"enforce_recovery_level": False, "check_cycle": 10**9}
    for lab in start(estate=wanted, fast=False, settings=settings):
        commands.set_clock(lab.home, speed=0)
        yield lab


def check(replay: Replay) -> None:
    if folder := os.environ.get("REPLAY_OUT"):
        Path(folder, replay.name).write_text("\n".join(replay.found))
    rules = [text for file, text, _ in DIFFERENCES if re.fullmatch(file, replay.name)]
    unlisted = [one for one in replay.found if not any(re.fullmatch(rule, one) for rule in rules)]
    assert unlisted == [], "differences that are not listed"
    stale = [rule for rule in rules if not any(re.fullmatch(rule, one) for one in replay.found)]
    assert stale == [], "listed differences that are gone"


@pytest.mark.parametrize("name", FILES)
def test_a_recording_of_managed_hsm(replay_lab: Any, name: str) -> None:
    exchanges = load(RECORDINGS / "keyvault" / f"{name}.yaml")
    replay = Replay(replay_lab, name)
    seed(replay, exchanges)
    for one in exchanges:
        perform(replay, one)
    check(replay)


def seed_vault(replay: Replay, name: str) -> None:
    """Make a vault whose keys the operator and the recorded instance may use."""
    found = replay.lab.status
    url = (
        f"https://management.azure.com/subscriptions/{found['subscription']}"
        f"/resourceGroups/seeded/providers/Microsoft.KeyVault/vaults/{name}?api-version=2023-07-01"
    )
    mi = (
        f"https://management.azure.com/subscriptions/{found['subscription']}"
        "/resourceGroups/CustomerExperienceTeam_RG/providers/Microsoft.Sql/managedInstances"
        "/clitestmi000001?api-version=2021-05-01-preview"
    )
    ensure_group(replay.lab, url)
    instance = replay.lab.call("GET", mi)[2]["identity"]["principalId"]
    policies = [
        {"tenantId": found["tenant"], "objectId": who, "permissions": {"keys": ["all"]}}
        for who in (found["object_id"], instance)
    ]
    body = {"location": "westcentralus", "properties": {"accessPolicies": policies}}
    assert replay.lab.call("PUT", url, body)[0] == 200


@pytest.mark.parametrize("name", ["test_sql_mi_tdebyok", "test_sql_instance_failover_group_mgmt"])
def test_a_recording_of_sql(replay_lab: Any, name: str) -> None:
    exchanges = load(RECORDINGS / "sql" / f"{name}.trimmed.json")
    replay = Replay(replay_lab, name)
    replay.active.update(urlsplit(one.url).hostname or "" for one in exchanges)
    if name == "test_sql_mi_tdebyok":
        seed_vault(replay, "sqltdebyok000003")
    for one, following in zip(exchanges, [*exchanges[1:], None], strict=True):
        perform(replay, one)
        polled = following is not None and "AsyncOperation/" in following.url
        if replay.operation and not polled:
            wait(replay, replay.operation, arm=False)
    check(replay)
