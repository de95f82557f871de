"""The requests that manage keys: create, import, read, change, delete, back up one."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from drengine.lab.hsm import keystore, regions, rotation, state
from drengine.lab.hsm.domain import protection_key
from drengine.lab.hsm.jose import JoseError, b64, derive, open_direct, seal_direct, unb64
from drengine.lab.places import geography_of
from drengine.lab.wire import Call, LabFault, Response, Route, hsm_fault, whole_number

PAGE: Final = 25
BACKUP_KID: Final = "backup-protection-key"
BINDING: Final = "lab.vault-binding"
DEFAULT_POLICY: Final = {
    "lifetimeActions": [{"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}}],
    "attributes": {"expiryTime": None},
}
_KEY_SIZES: Final = {"RSA-HSM": 2048, "oct-HSM": 256, "EC-HSM": 0}


def _name(call: Call) -> str:
    return str(call.match["name"])


def _load(call: Call, action: str) -> dict[str, Any]:
    """Check the right at the scope of the named key, or of all keys."""
    named = "name" in call.match.re.groupindex
    return state.load_active(call, action, scope=f"/keys/{_name(call)}" if named else "/keys")


def _changed(call: Call, effect: str, hsm: dict[str, Any], what: str) -> None:
    """Name what a call changed.

    Raises:
        LabFault: 503, where the primary region is lost and the other takes no writes.
    """
    refuse = call.lab.settings.writes_when_primary_lost == "refuse"
    if refuse and regions.is_down(call.tx, hsm["location"]):
        raise LabFault(503, "ServiceUnavailable", "The primary region takes all writes.")
    call.effect, call.target = effect, f"{hsm['name']}/{what}"


def _create(call: Call) -> Response:
    hsm = _load(call, "/keys/create")
    body = call.request.json_object()
    kty = keystore.KINDS.get(str(body.get("kty")))
    if kty is None:
        raise LabFault(400, "BadParameter", f"The key type '{body.get('kty')}' is not supported.")
    size = int(body.get("key_size") or _KEY_SIZES[kty])
    material = keystore.generate_material(call.lab, kty, size, str(body.get("crv") or "P-256"))
    version = keystore.new_version(kty, material, call.tx.now_ms, body=body)
    return _add(call, hsm, _kind_kept(hsm, version, str(body.get("kty"))))


def _kind_kept(hsm: dict[str, Any], version: dict[str, Any], wanted: str) -> dict[str, Any]:
    """Return the version marked as a software key, where a vault was asked for one."""
    is_software = state.is_vault(hsm) and not wanted.endswith("-HSM")
    return {**version, "software": True} if is_software else version


def _add(call: Call, hsm: dict[str, Any], version: dict[str, Any]) -> Response:
    document = keystore.add_version(call.tx, hsm["name"], _name(call), version)
    rotation.plan(call.tx, hsm, document)
    name = document["name"]
    _changed(call, "hsm.key.create", hsm, f"{name}/{version['version']}")
    return state.answer(call, 200, keystore.bundle(call.tx, hsm, name, version))


def _import(call: Call) -> Response:
    hsm = _load(call, "/keys/import/action")
    body = call.request.json_object()
    jwk = body.get("key") or {}
    kty = keystore.KINDS.get(str(jwk.get("kty")).removesuffix("-HSM"))
    try:
        material = _imported(jwk, kty)
    except (KeyError, TypeError, ValueError):
        raise LabFault(400, "BadParameter", "key must be a JWK with its private parts.") from None
    wanted = {**body, "key_ops": jwk.get("key_ops")}
    version = keystore.new_version(kty or "", material, call.tx.now_ms, body=wanted)
    return _add(call, hsm, _kind_kept(hsm, version, str(jwk.get("kty"))))


def _imported(jwk: dict[str, Any], kty: str | None) -> bytes:
    def number(member: str) -> int:
        return int.from_bytes(unb64(jwk[member]), "big")

    if kty == "RSA-HSM":
        public = rsa.RSAPublicNumbers(number("e"), number("n"))
        p, q, d, dp, dq, qi = (number(member) for member in ("p", "q", "d", "dp", "dq", "qi"))
        return keystore.private_der(
            rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public).private_key()
        )
    if kty == "EC-HSM":
        curve = keystore.CURVES[jwk["crv"]]()
        point = ec.EllipticCurvePublicNumbers(number("x"), number("y"), curve)
        return keystore.private_der(
            ec.EllipticCurvePrivateNumbers(number("d"), point).private_key()
        )
    if kty == "oct-HSM":
        raw = unb64(jwk["k"])
        if len(raw) * 8 in keystore.OCT_SIZES:
            return raw
    raise ValueError("not an importable key")


def _get(call: Call) -> Response:
    hsm = _load(call, "/keys/read/action")
    version = call.match["version"] or ""
    document, found = keystore.find(call.tx, hsm["name"], _name(call), version)
    return state.answer(call, 200, keystore.bundle(call.tx, hsm, document["name"], found))


def _page_size(call: Call) -> int:
    text = call.request.query.get("maxresults") or str(PAGE)
    found = whole_number(text)
    if not found:
        raise LabFault(400, "BadParameter", "maxresults must be a number from 1 to 25.")
    return min(found, PAGE)


def _page(call: Call, items: list[tuple[str, dict[str, Any]]]) -> Response:
    """Answer one page; `items` has one more than fits where another page follows."""
    limit = _page_size(call)
    body: dict[str, Any] = {"value": [item for _, item in items[:limit]]}
    if len(items) > limit:
        version = quote(call.request.query.get("api-version", ""))
        token = quote(items[limit - 1][0], safe="")
        body["nextLink"] = (
            f"https://{call.request.host}{call.request.path}?api-version={version}"
            f"&$skiptoken={token}&maxresults={limit}"
        )
    return state.answer(call, 200, body)


def _documents(call: Call, hsm: dict[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    after = call.request.query.get("$skiptoken", "")
    return call.tx.find(kind, f"{hsm['name']}/", after=after, limit=_page_size(call) + 1)


def _newest(call: Call, hsm: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    newest = document["versions"][-1]
    return keystore.list_item(call.tx, hsm, document["name"], newest, with_version=False)


def _list(call: Call) -> Response:
    hsm = _load(call, "/keys/read/action")
    found = _documents(call, hsm, keystore.KEY)
    return _page(call, [(key, _newest(call, hsm, one)) for key, one in found])


def _versions(call: Call) -> Response:
    hsm = _load(call, "/keys/read/action")
    document, _ = keystore.find(call.tx, hsm["name"], _name(call))
    after = call.request.query.get("$skiptoken", "")
    found = [
        (f"{number:04}", one)
        for number, one in enumerate(document["versions"])
        if f"{number:04}" > after
    ]
    name = document["name"]
    return _page(
        call,
        [
            (mark, keystore.list_item(call.tx, hsm, name, one, with_version=True))
            for mark, one in found
        ],
    )


def _update(call: Call) -> Response:
    hsm = _load(call, "/keys/write/action")
    body = call.request.json_object()
    document, found = keystore.find(call.tx, hsm["name"], _name(call), call.match["version"] or "")
    wanted = body.get("attributes") or {}
    for attribute in ("enabled", "nbf", "exp"):
        if wanted.get(attribute) is not None:
            found["attributes"][attribute] = wanted[attribute]
    found["attributes"]["updated"] = call.tx.now_ms // 1000
    if (found.get("release_policy") or {}).get("immutable") and body.get("release_policy"):
        raise LabFault(400, "BadParameter", "The release policy of this key is immutable.")
    found |= keystore.release_members(body)
    if body.get("key_ops") is not None:
        found["ops"] = list(body["key_ops"])
    if body.get("tags") is not None:
        found["tags"] = body["tags"]
    call.tx.put(keystore.KEY, keystore.key_id(hsm["name"], _name(call)), document)
    _changed(call, "hsm.key.update", hsm, f"{document['name']}/{found['version']}")
    return state.answer(call, 200, keystore.bundle(call.tx, hsm, document["name"], found))


def _rotate(call: Call) -> Response:
    hsm = _load(call, "/keys/rotate/action")
    document, _ = keystore.find(call.tx, hsm["name"], _name(call))
    return _add(call, hsm, rotation.next_version(call.lab, call.tx.now_ms, document))


def _policy(call: Call) -> Response:
    hsm = _load(call, "/keys/read/action")
    document, _ = keystore.find(call.tx, hsm["name"], _name(call))
    policy = document.get("rotation_policy", DEFAULT_POLICY)
    identity = f"https://{call.request.host}/keys/{document['name']}/rotationpolicy"
    return state.answer(call, 200, {"id": identity, **policy})


def _set_policy(call: Call) -> Response:
    hsm = _load(call, "/keys/write/action")
    document, _ = keystore.find(call.tx, hsm["name"], _name(call))
    body = call.request.json_object()
    rotation.check(body)
    seconds = call.tx.now_ms // 1000
    attributes = {**(body.get("attributes") or {}), "created": seconds, "updated": seconds}
    document["rotation_policy"] = {
        "lifetimeActions": body.get("lifetimeActions") or [],
        "attributes": attributes,
    }
    call.tx.put(keystore.KEY, keystore.key_id(hsm["name"], _name(call)), document)
    rotation.plan(call.tx, hsm, document)
    _changed(call, "hsm.key.rotation-policy", hsm, document["name"])
    identity = f"https://{call.request.host}/keys/{document['name']}/rotationpolicy"
    return state.answer(call, 200, {"id": identity, **document["rotation_policy"]})


def _deleted_bundle(call: Call, hsm: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    newest = document["versions"][-1]
    found = keystore.bundle(call.tx, hsm, document["name"], newest)
    return {**found, **keystore.deleted_members(call.tx, hsm, document)}


def _delete(call: Call) -> Response:
    hsm = _load(call, "/keys/delete")
    document, _ = keystore.find(call.tx, hsm["name"], _name(call))
    document["deleted"] = call.tx.now_ms // 1000
    key = keystore.key_id(hsm["name"], _name(call))
    call.tx.delete(keystore.KEY, key)
    call.tx.put(keystore.DELETED_KEY, key, document)
    _changed(call, "hsm.key.delete", hsm, document["name"])
    return state.answer(call, 200, _deleted_bundle(call, hsm, document))


def _find_deleted(call: Call, hsm: dict[str, Any]) -> dict[str, Any]:
    name = _name(call)
    found = call.tx.get(keystore.DELETED_KEY, keystore.key_id(hsm["name"], name))
    if found is None:
        raise LabFault(404, "KeyNotFound", f"Deleted Key not found: {name}")
    return found


def _get_deleted(call: Call) -> Response:
    hsm = _load(call, "/keys/deletedKeys/read/action")
    return state.answer(call, 200, _deleted_bundle(call, hsm, _find_deleted(call, hsm)))


def _list_deleted(call: Call) -> Response:
    hsm = _load(call, "/keys/deletedKeys/read/action")
    items = [
        (key, {**_newest(call, hsm, one), **keystore.deleted_members(call.tx, hsm, one)})
        for key, one in _documents(call, hsm, keystore.DELETED_KEY)
    ]
    return _page(call, items)


def _recover(call: Call) -> Response:
    hsm = _load(call, "/keys/deletedKeys/recover/action")
    document = _find_deleted(call, hsm)
    del document["deleted"]
    key = keystore.key_id(hsm["name"], _name(call))
    call.tx.delete(keystore.DELETED_KEY, key)
    call.tx.put(keystore.KEY, key, document)
    _changed(call, "hsm.key.recover", hsm, document["name"])
    newest = document["versions"][-1]
    return state.answer(call, 200, keystore.bundle(call.tx, hsm, document["name"], newest))


def _purge(call: Call) -> Response:
    hsm = _load(call, "/keys/deletedKeys/delete")
    document = _find_deleted(call, hsm)
    _, protected = state.deletion_policy(call.tx, hsm)
    if protected:
        raise LabFault(403, "Forbidden", "Purge protection is on; the key cannot be purged.")
    call.tx.delete(keystore.DELETED_KEY, keystore.key_id(hsm["name"], _name(call)))
    _changed(call, "hsm.key.purge", hsm, document["name"])
    return Response(204)


def _backup(call: Call) -> Response:
    hsm = _load(call, "/keys/backup/action")
    document, _ = keystore.find(call.tx, hsm["name"], _name(call))
    compact = seal_direct(_backup_key(call, hsm), json.dumps(document).encode(), BACKUP_KID)
    return state.answer(call, 200, {"value": b64(compact.encode())})


def _backup_key(call: Call, hsm: dict[str, Any]) -> bytes:
    """Return what a single key's backup is bound to.

    For a HSM that is its security domain, so any HSM of the same domain restores it; for a
    vault its geography and subscription.
    """
    if not state.is_vault(hsm):
        return protection_key(state.domain_of(call.tx, hsm), BACKUP_KID)
    secret = call.tx.get(BINDING, "") or {"value": secrets.token_hex(32)}
    call.tx.put(BINDING, "", secret)
    subscription = hsm["arm_id"].split("/")[2].lower()
    return derive(bytes.fromhex(secret["value"]), f"{geography_of(hsm['location'])}/{subscription}")


def _restore(call: Call) -> Response:
    hsm = _load(call, "/keys/restore/action")
    try:
        compact = unb64(str(call.request.json_object().get("value"))).decode()
        document = json.loads(open_direct(compact, _backup_key(call, hsm)))
    except (JoseError, ValueError):
        bound = "geography and subscription" if state.is_vault(hsm) else "security domain"
        raise LabFault(
            400, "BadParameter", f"The backup does not open with this one's {bound}."
        ) from None
    name = document["name"]
    key = keystore.key_id(hsm["name"], name)
    if call.tx.get(keystore.DELETED_KEY, key) is not None:
        raise keystore.deleted_conflict(name)
    if call.tx.get(keystore.KEY, key) is not None:
        raise LabFault(409, "Conflict", f"A key named {name} exists already.")
    call.tx.put(keystore.KEY, key, document)
    _changed(call, "hsm.key.restore", hsm, name)
    newest = document["versions"][-1]
    return state.answer(call, 200, keystore.bundle(call.tx, hsm, name, newest))


KEY_NAME: Final = "(?P<name>[0-9a-zA-Z-]{1,127})"
VERSION: Final = "(?P<version>[0-9a-f]{32})"
_KEY: Final = f"/keys/{KEY_NAME}"
_DELETED: Final = f"/deletedkeys/{KEY_NAME}"
ROUTES: Final[tuple[Route, ...]] = tuple(
    Route(host, method, path, handler, auth, hsm_fault)
    for host, auth in state.KEY_HOSTS
    for method, path, handler in (
        ("GET", "/keys/?", _list),
        ("POST", "/keys/restore", _restore),
        ("POST", _KEY + "/create", _create),
        ("POST", _KEY + "/backup", _backup),
        ("POST", _KEY + "/rotate", _rotate),
        ("GET", _KEY + "/rotationpolicy", _policy),
        ("PUT", _KEY + "/rotationpolicy", _set_policy),
        ("GET", _KEY + "/versions", _versions),
        ("GET", f"{_KEY}(/{VERSION}|/)?", _get),
        ("PATCH", f"{_KEY}(/{VERSION}|/)?", _update),
        ("PUT", _KEY + "/?", _import),
        ("DELETE", _KEY + "/?", _delete),
        ("GET", "/deletedkeys/?", _list_deleted),
        ("GET", _DELETED + "/?", _get_deleted),
        ("POST", _DELETED + "/recover", _recover),
        ("DELETE", _DELETED + "/?", _purge),
    )
)
