"""Faults on purpose: rules that spoil answers of the lab, by endpoint, count and seed.

A rule fits requests by host, method and path. It acts `before` the service sees the
request (nothing happens), or `after` it has (the effect is there, only the answer is
spoilt). Rules lie in the store, so that a killed lab goes on with them, and every request
that one touched says so in the call log.

Rules:
- a request that only asks for the authentication challenge is left alone, so that a count
  of one spoils the call that was meant;
- what is random follows from the rule's seed and the number of the request it fits;
- faults that change the estate (a region lost, an identity deleted) are disasters.
"""

from __future__ import annotations

import json
import random
import re
import threading
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from drengine.lab.wire import Delivery, DeliveryKind, Request, Response, json_response

if TYPE_CHECKING:
    from drengine.lab.store import Store, Tx

RULE: Final = "lab.fault"
Kind = Literal[
    "status",
    "status-after",
    "retry-after",
    "reset-before",
    "reset-after",
    "withhold",
    "late-effect",
    "slow",
    "broken-off",
    "truncated-json",
    "foreign-json",
    "html",
    "lro-stuck",
    "lro-failed",
    "lro-vanished",
    "replace-text",
    "dns",
    "job-failed",
]
BEFORE: Final = frozenset({"status", "reset-before", "late-effect", "lro-vanished", "dns"})
_DELIVERIES: Final[Mapping[str, DeliveryKind]] = {
    "reset-after": "reset",
    "withhold": "withhold",
    "slow": "drip",
    "broken-off": "break-off",
}
_HTML: Final = b"<html><head><title>502</title></head><body>Bad gateway</body></html>"
_FOREIGN: Final = {"value": ["this", "answer", "belongs", "to", "another", "request"]}


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault."""

    kind: Kind
    host: str = ".*"
    """Regular expression for the whole host name."""
    method: str = ".*"
    """Regular expression for the whole method."""
    path: str = ".*"
    """Regular expression for the whole path."""
    who: Literal["clients", "instances", "all"] = "clients"
    """Whose requests: those of clients, or the ones that instances make to HSMs."""
    count: int = 1
    """How many requests it spoils; 0 means every one."""
    skip: int = 0
    """How many fitting requests pass before."""
    probability: float = 1.0
    """Of each fitting request after those."""
    seed: int = 0
    """Decides which requests `probability` hits."""
    status: int = 503
    """The HTTP status of `status` and `status-after`."""
    code: str = "ServiceUnavailable"
    """The error code in the body."""
    message: str = "The lab was told to answer so."
    """The error text in the body."""
    retry_after: str = ""
    """Sent as `Retry-After`, whatever it says."""
    retry_after_ms: str = ""
    """Sent as `retry-after-ms`."""
    seconds: float = 5.0
    """Wall seconds of `withhold` and `slow`, virtual ones of `late-effect`."""
    old: str = ""
    """`replace-text`: what to replace in the body."""
    new: str = ""
    """`replace-text`: by what."""
    id: str = ""
    seen: int = 0
    hit: int = 0

    def fits(self, request: Request) -> bool:
        """Return whether the rule is about this request."""
        principal = request.principal
        is_instance = principal is not None and principal.kind == "identity"
        if self.who != "all" and is_instance != (self.who == "instances"):
            return False
        return all(
            re.fullmatch(pattern, found, re.IGNORECASE)
            for pattern, found in (
                (self.method, request.method),
                (self.host, request.host),
                (self.path, request.path),
            )
        )

    @property
    def spent(self) -> bool:
        """Whether it has spoilt as many requests as it was to."""
        return bool(self.count) and self.hit >= self.count


_PENDING: Final = "/(backup|restore)/[0-9a-f]+/pending|/securitydomain/.*/pending"
_HSM: Final = r".*\.managedhsm\.azure\.net"
NAMED: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "backup-409-accepted": (
        "POST /backup answers 409 although the backup runs (azure-cli#33783)",
        {
            "kind": "status-after",
            "host": _HSM,
            "method": "POST",
            "path": "/backup",
            "status": 409,
            "code": "Conflict",
            "message": "Another backup operation is in progress",
        },
    ),
    "poll-401": (
        "one poll is asked for a fresh token (az 2.77 to 2.88 then send the POST again)",
        {"kind": "status", "host": _HSM, "method": "GET", "path": _PENDING, "status": 401},
    ),
    "poll-504": (
        "one poll of Resource Manager answers 504 GatewayTimeout (recorded 2023-07)",
        {
            "kind": "status",
            "host": "management\\.azure\\.com",
            "method": "GET",
            "path": ".*/(managedHsmOperationResults|.*AzureAsyncOperation)/.*",
            "status": 504,
            "code": "GatewayTimeout",
            "message": "The gateway did not receive a response from 'Microsoft.KeyVault' within "
            "the specified time period.",
        },
    ),
    "upload-error-succeeded": (
        "the upload of the security domain answers 500 although it goes on (azure-cli#15065)",
        {
            "kind": "status-after",
            "host": _HSM,
            "method": "POST",
            "path": "/securitydomain/upload",
            "status": 500,
            "code": "InternalServerError",
            "message": "Unknown error",
        },
    ),
    "status-word": (
        "the security domain's status says Succeeded for Success (azure-cli#17263)",
        {
            "kind": "replace-text",
            "host": _HSM,
            "path": "/securitydomain/.*/pending",
            "old": '"Success"',
            "new": '"Succeeded"',
            "count": 0,
        },
    ),
    "failed-without-error": (
        "a failed job has no error object (azure-cli#18049)",
        {
            "kind": "lro-failed",
            "host": _HSM,
            "method": "GET",
            "path": "/(backup|restore)/.*/pending",
            "code": "",
            "count": 0,
        },
    ),
    "unknown-role": (
        "a role assignment is refused once for an unknown role (terraform azurerm#24790)",
        {
            "kind": "status",
            "host": _HSM,
            "method": "PUT",
            "path": ".*/roleAssignments/.*",
            "status": 400,
            "code": "BadParameter",
            "message": "Unkown role definition",
        },
    ),
    "no-capacity": (
        "no HSM can be created in a region (terraform azurerm#20855)",
        {
            "kind": "status",
            "host": "management\\.azure\\.com",
            "method": "PUT",
            "path": ".*/managedHSMs/[^/]+",
            "status": 503,
            "code": "503",
            "message": "Pool creation is disabled in this region",
            "count": 0,
        },
    ),
    "throttled": (
        "429 with Retry-After",
        {"kind": "status", "status": 429, "code": "TooManyRequests", "retry_after": "1"},
    ),
    "absurd-retry-after": (
        "a poll asks to come again in a year",
        {"kind": "retry-after", "method": "GET", "retry_after": "31536000"},
    ),
    "no-such-name": ("a host name does not resolve", {"kind": "dns", "host": _HSM, "count": 0}),
    "operation-vanished": (
        "an operation is not known any more",
        {
            "kind": "lro-vanished",
            "host": "management\\.azure\\.com",
            "method": "GET",
            "path": ".*(AzureAsyncOperation|OperationResults)/.*",
            "count": 0,
        },
    ),
}
"""Known behaviour and defects of the service and its SDKs: why, and the rule for it."""


def rule_from(document: Mapping[str, Any]) -> Rule:
    """Return the rule that a document asks for; `name` stands for a named fault.

    Raises:
        ValueError: unknown name, kind or member, or not a regular expression.
    """
    wanted = dict(document)
    name = wanted.pop("name", None)
    if name is not None:
        if name not in NAMED:
            raise ValueError(f"unknown fault {name!r}; there are {', '.join(sorted(NAMED))}")
        wanted = {**NAMED[name][1], **wanted}
    unknown = sorted(set(wanted) - {one.name for one in fields(Rule)})
    if unknown:
        raise ValueError(f"unknown members of a fault: {', '.join(unknown)}")
    if wanted.get("kind") not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}")
    rule = Rule(**wanted)
    for pattern in (rule.host, rule.method, rule.path):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    return replace(rule, id=rule.id or uuid.uuid4().hex[:8])


class FaultBook:
    """The rules of a lab, in memory and in its store.

    Parameters:
        store: where they lie.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        with store.transaction() as tx:
            self._rules = {key: Rule(**found) for key, found in tx.find(RULE)}

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules, with how often they were seen and hit."""
        with self._lock:
            return [asdict(one) for one in self._rules.values()]

    def add(self, tx: Tx, rule: Rule) -> None:
        """Write a rule; it holds from now on."""
        tx.put(RULE, rule.id, asdict(rule))
        with self._lock:
            self._rules = {**self._rules, rule.id: rule}

    def clear(self, tx: Tx) -> int:
        """Forget all rules and return how many there were."""
        with self._lock:
            count, self._rules = len(self._rules), {}
        for key, _ in tx.find(RULE):
            tx.delete(RULE, key)
        return count

    def take(self, request: Request) -> Rule | None:
        """Return the rule that spoils this request, and count it."""
        if not self._rules or not _is_meant(request):
            return None
        chosen = None
        with self._lock:
            for rule in self._rules.values():
                if rule.kind == "job-failed" or rule.spent or not rule.fits(request):
                    continue
                hit = _is_hit(rule)
                counted = replace(rule, seen=rule.seen + 1, hit=rule.hit + int(hit))
                self._rules[rule.id] = counted
                if hit:
                    chosen = counted
                    break
        if chosen is not None:
            with self._store.transaction() as tx:
                tx.put(RULE, chosen.id, asdict(chosen))
        return chosen

    def job_rule(self, name: str) -> Rule | None:
        """Return the rule that lets a backup, restore or the like fail after its 202."""
        for rule in self._rules.values():
            if rule.kind == "job-failed" and not rule.spent and re.fullmatch(rule.path, name):
                return rule
        return None

    def count(self, tx: Tx, rule: Rule) -> None:
        """Count a hit of a rule inside a transaction that is open already."""
        counted = replace(rule, seen=rule.seen + 1, hit=rule.hit + 1)
        with self._lock:
            self._rules[rule.id] = counted
        tx.put(RULE, rule.id, asdict(counted))

    def resolves(self, host: str) -> bool:
        """Return whether no rule keeps this name from being resolved."""
        return not any(
            rule.kind == "dns" and not rule.spent and re.fullmatch(rule.host, host, re.IGNORECASE)
            for rule in self._rules.values()
        )


def _is_meant(request: Request) -> bool:
    """Return whether a request is more than the question for a challenge."""
    identified = "authorization" in request.headers or "sig" in request.query
    return identified or request.host.startswith("login.")


def _is_hit(rule: Rule) -> bool:
    if rule.seen < rule.skip:
        return False
    if rule.probability >= 1:
        return True
    return random.Random(f"{rule.seed}/{rule.seen}").random() < rule.probability  # noqa: S311 - repeatable on purpose


def answer_before(rule: Rule) -> Response:
    """Return the answer of a rule that keeps the request from its service."""
    if rule.kind == "status":
        return _error(rule)
    if rule.kind == "lro-vanished":
        text = "The operation with the specified Id does not exist."
        body = {"error": {"code": "OperationIdNotFound", "message": text}}
        return json_response(404, body)
    return Response(503, delivery=Delivery("reset"))


def answer_after(rule: Rule, request: Request, response: Response) -> Response:
    """Return the spoilt answer to a request that its service has answered."""
    delivery = _DELIVERIES.get(rule.kind)
    if delivery is not None:
        return replace(response, delivery=Delivery(delivery, rule.seconds))
    if rule.kind in {"lro-stuck", "lro-failed"}:
        return _rewritten_poll(rule, request, response)
    if rule.kind == "status-after":
        return _error(rule)
    if rule.kind == "retry-after":
        return replace(response, headers={**response.headers, **_retry_headers(rule)})
    return _other_body(rule, response)


def _other_body(rule: Rule, response: Response) -> Response:
    if rule.kind == "truncated-json":
        return replace(response, body=response.body[: len(response.body) // 2])
    if rule.kind == "foreign-json":
        return json_response(response.status, _FOREIGN, _without_type(response))
    if rule.kind == "html":
        return Response(response.status, {"content-type": "text/html"}, _HTML)
    return replace(response, body=response.body.replace(rule.old.encode(), rule.new.encode()))


def _without_type(response: Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name != "content-type"}


def _retry_headers(rule: Rule) -> dict[str, str]:
    found = {"retry-after": rule.retry_after, "retry-after-ms": rule.retry_after_ms}
    return {name: value for name, value in found.items() if value}


def _error(rule: Rule) -> Response:
    body = {"error": {"code": rule.code, "message": rule.message}}
    headers = _retry_headers(rule)
    return json_response(rule.status, body, headers)


def _rewritten_poll(rule: Rule, request: Request, response: Response) -> Response:
    """Return a poll that never ends, or one that failed."""
    try:
        body = json.loads(response.body or b"null")
    except ValueError:
        return response
    if isinstance(body, dict) and "status" in body:
        changed = dict(body)
        changed["status"] = "InProgress" if rule.kind == "lro-stuck" else "Failed"
        if rule.kind == "lro-failed":
            changed["error"] = {"code": rule.code, "message": rule.message} if rule.code else None
        return json_response(response.status, changed, _without_type(response))
    if rule.kind == "lro-failed":
        return _error(rule)
    location = f"https://{request.host}{request.raw_target}"
    return Response(202, {**_without_type(response), "location": location})
