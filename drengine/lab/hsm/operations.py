"""Full backups, full restores and restores of one key: requests and jobs.

Rules:
- One at a time per HSM.
- What goes wrong after the 202 (storage, rights there, a foreign or damaged backup) ends
  the job as Failed; it is not an HTTP error.
- During a restore the data plane answers nothing but the state of that restore.
- A full restore replaces all keys and all role assignments: whoever ran it may have no
  rights afterwards.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.hsm import keystore, regions, roles, rotation, state, vault
from drengine.lab.wire import Call, LabFault, Response, Route, hsm_fault

if TYPE_CHECKING:
    from drengine.lab.settings import Settings
    from drengine.lab.store import Tx
    from drengine.lab.world import Lab

JOB_DOC: Final = "hsm.job"
SPOILT: Final = "lab.fault.job"
"""By job id: a fault has decided that this job fails."""
RUN: Final = "hsm.operation"
IDENTITY: Final = "arm.identity"
_CONTAINER_URI: Final = re.compile(
    r"https://(?P<account>[a-z0-9-]{3,63})\.blob\.core\.windows\.net(:443)?"
    r"/(?P<container>[^/?]+)/?",
    re.IGNORECASE,
)
_BACKUP_NEEDS: Final = "crdw"
_RESTORE_NEEDS: Final = "rl"


def storage_of(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return where a request wants its backup, checked for form only.

    Raises:
        LabFault: the URI or the choice between token and identity is malformed.
    """
    uri = str(parameters.get("storageResourceUri") or "")
    found = _CONTAINER_URI.fullmatch(uri)
    if found is None:
        raise LabFault(400, "BadParameter", "storageResourceUri must be the URI of a container.")
    token = str(parameters.get("token") or "").removeprefix("?")
    by_identity = parameters.get("useManagedIdentity") is True
    if by_identity == bool(token):
        raise LabFault(400, "BadParameter", "Either token or useManagedIdentity is needed.")
    return {
        "uri": uri.rstrip("/"),
        "account": found["account"].lower(),
        "container": found["container"],
        "token": token or None,
    }


def begin(
    tx: Tx, settings: Settings, hsm: dict[str, Any], kind: str, **payload: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a job's document, schedule it, and return document and payload.

    Parameters:
        kind: `backup` or `restore`, the word in the job's address.
        payload: `verb`, `storage` and what the verb needs.

    Raises:
        LabFault: another backup or restore is running.
    """
    verb = payload["verb"]
    if hsm.get("busy") is not None:
        status = settings.restore_busy_status
        code = "Conflict" if status == 409 else "TooManyRequests"  # noqa: PLR2004 - a setting
        word = hsm["busy"].split("/")[0]
        raise LabFault(status, code, f"Another {word} operation is in progress")
    job = _new_job(kind, verb, tx.now_ms)
    hsm["busy"] = f"{kind}/{job['jobId']}"
    if verb == "restore":
        hsm["restoring"] = job["jobId"]
    state.store(tx, hsm)
    tx.put(JOB_DOC, f"{hsm['name']}/{kind}/{job['jobId']}", job)
    seconds = {
        "backup": settings.backup,
        "restore": settings.restore,
        "selective": settings.selective_restore,
    }.get(verb, settings.backup / 2)
    full = {"hsm": hsm["name"], "kind": kind, "job": job["jobId"], **payload}
    tx.schedule(RUN, full, tx.now_ms + int(seconds * 1000))
    return job, full


def _new_job(kind: str, verb: str, now_ms: int) -> dict[str, Any]:
    checking = verb.startswith("pre")
    return {
        "jobId": uuid.uuid4().hex,
        "kind": kind,
        "status": "InProgress",
        "statusDetails": f"Pre Full {kind} operation is in progress" if checking else None,
        "error": None,
        "startTime": now_ms // 1000,
        "endTime": None,
        "azureStorageBlobContainerUri": None,
    }


def _begin(call: Call, hsm: dict[str, Any], kind: str, **payload: Any) -> dict[str, Any]:
    job, _ = begin(call.tx, call.lab.settings, hsm, kind, **payload)
    rule = call.lab.faults.job_rule(payload["verb"])
    if rule is not None:
        call.tx.put(SPOILT, job["jobId"], {"message": rule.message})
        call.lab.faults.count(call.tx, rule)
    call.effect, call.target = f"hsm.{payload['verb']}", f"{hsm['name']}/{job['jobId']}"
    return job


def _accepted(call: Call, job: dict[str, Any]) -> Response:
    url = f"https://{call.request.host}/{job['kind']}/{job['jobId']}/pending"
    return state.answer(call, 202, _wire(job), state.polling_headers(call, url))


def _wire(job: dict[str, Any]) -> dict[str, Any]:
    names = ["endTime", "error", "jobId", "startTime", "status", "statusDetails"]
    if job["kind"] == "backup":
        names.insert(0, "azureStorageBlobContainerUri")
    return {name: job[name] for name in names}


def _backup(call: Call) -> Response:
    hsm = state.load_active(call, "/backup/start/action")
    storage = storage_of(call.request.json_object())
    folder = folder_name(hsm["display_name"], call.tx.now_ms)
    return _accepted(
        call, _begin(call, hsm, "backup", verb="backup", storage=storage, folder=folder)
    )


def _prebackup(call: Call) -> Response:
    hsm = state.load_active(call, "/backup/start/action")
    storage = storage_of(call.request.json_object())
    return _accepted(call, _begin(call, hsm, "backup", verb="prebackup", storage=storage))


def folder_name(hsm: str, now_ms: int) -> str:
    """Return the folder of a backup begun now: UTC to hundredths of a second."""
    moment = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    return f"mhsm-{hsm}-{moment:%Y%m%d%H%M%S}{moment.microsecond // 10_000:02}"


def _restore_request(call: Call, folder_member: str) -> dict[str, Any]:
    body = call.request.json_object()
    folder = str(body.get(folder_member) or "").strip("/")
    if not folder:
        raise LabFault(400, "BadParameter", f"{folder_member} is needed.")
    parameters = body.get("sasTokenParameters")
    if not isinstance(parameters, dict):
        raise LabFault(400, "BadParameter", "sasTokenParameters is needed.")
    return {"storage": storage_of(parameters), "folder": folder}


def _restore(call: Call) -> Response:
    hsm = state.load_active(call, "/restore/start/action")
    request = _restore_request(call, "folderToRestore")
    settings = call.lab.settings
    found = missing_backup(settings, hsm, call.tx.now_ms)
    if found is not None and settings.restore_without_backup == "refuse":
        raise LabFault(400, "BadParameter", found)
    return _accepted(call, _begin(call, hsm, "restore", verb="restore", **request))


def _prerestore(call: Call) -> Response:
    hsm = state.load_active(call, "/restore/start/action")
    request = _restore_request(call, "folderToRestore")
    return _accepted(call, _begin(call, hsm, "restore", verb="prerestore", **request))


def _selective(call: Call) -> Response:
    name = call.match["name"]
    hsm = state.load_active(call, "/restore/start/action")
    request = _restore_request(call, "folder")
    return _accepted(call, _begin(call, hsm, "restore", verb="selective", key=name, **request))


def _pending(call: Call) -> Response:
    kind = call.match["kind"].lower()
    hsm = state.load(call)
    roles.require(call, hsm["name"], f"/{kind}/status/action")
    if kind != "restore":
        state.refuse_while_restoring(call, hsm)
    job = call.tx.get(JOB_DOC, f"{hsm['name']}/{kind}/{call.match['job'].lower()}")
    if job is None:
        raise LabFault(404, "NotFound", f"There is no {kind} job of that id.")
    return state.answer(call, 200, _wire(job), state.polling_headers(call))


def missing_backup(settings: Settings, hsm: dict[str, Any], now_ms: int) -> str | None:
    """Return why the destination's own backup does not do for a restore, None if it does."""
    if not settings.restore_requires_backup:
        return None
    taken = hsm.get("backed_up_ms")
    if not taken:
        return _NO_BACKUP
    is_old = now_ms - taken >= _AGE_MS
    if settings.backup_age_rule == "within-30-minutes" and is_old:
        return "The full backup of this Managed HSM is older than 30 minutes."
    if settings.backup_age_rule == "at-least-30-minutes" and not is_old:
        return "The full backup of this Managed HSM is not 30 minutes old yet."
    return None


_AGE_MS: Final = 30 * 60 * 1000
_NO_BACKUP: Final = "A full backup of this Managed HSM is required before a restore."


def run(lab: Lab, payload: dict[str, Any]) -> None:
    """Job: do what the request asked for, and write down how it ended."""
    with lab.store.transaction() as tx:
        hsm = tx.get(state.HSM, payload["hsm"])
        key = f"{payload['hsm']}/{payload['kind']}/{payload['job']}"
        job = tx.get(JOB_DOC, key)
        if hsm is None or job is None or job["status"] != "InProgress":
            return
        try:
            _perform(lab, tx, hsm, job, payload)
            job["status"] = "Succeeded"
        except (LabFault, vault.BackupError) as error:
            _fail(lab, job, error)
        job["endTime"] = tx.now_ms // 1000
        hsm["busy"] = None
        if hsm.get("restoring") == payload["job"]:
            hsm["restoring"] = None
        state.store(tx, hsm)
        tx.put(JOB_DOC, key, job)
        outcome = {"status": job["status"], "folder": payload.get("folder")}
        tx.log_effect(f"hsm.{payload['verb']}.done", f"{payload['hsm']}/{payload['job']}", outcome)


def _perform(
    lab: Lab, tx: Tx, hsm: dict[str, Any], job: dict[str, Any], payload: dict[str, Any]
) -> None:
    verb = payload["verb"]
    spoilt = tx.get(SPOILT, payload["job"])
    if spoilt is not None:
        raise vault.BackupError(spoilt["message"])
    _VERBS[verb](lab, tx, hsm, job, payload)


def _fail(lab: Lab, job: dict[str, Any], error: Exception) -> None:
    job["status"] = "Failed"
    job["statusDetails"] = f"{job['kind'].capitalize()} failed."
    if lab.settings.restore_failed_error == "null":
        return
    fault = isinstance(error, LabFault)
    code = error.code if isinstance(error, LabFault) else "BadRequest"
    message = error.message if isinstance(error, LabFault) else str(error)
    prefix = "The storage service refused: " if fault else ""
    job["error"] = {"code": code, "message": prefix + message, "innererror": None}


def identity_of(tx: Tx, hsm: dict[str, Any]) -> str | None:
    """Return the principal of the user-assigned identity attached to the HSM, if any."""
    resource = tx.get("arm.hsm", hsm["arm_id"].lower())
    attached = ((resource or {}).get("resource", {}).get("identity") or {}).get(
        "userAssignedIdentities"
    ) or {}
    for identity in attached:
        found = tx.get(IDENTITY, identity.lower())
        if found is not None:
            return str(found["principalId"])
    return None


def _authorize(tx: Tx, hsm: dict[str, Any], payload: dict[str, Any], need: str) -> None:
    from drengine.lab.blob import domain as blob  # noqa: PLC0415 - storage is another service

    storage = payload["storage"]
    principal = None if storage["token"] else identity_of(tx, hsm)
    blob.authorize_hsm_storage(
        tx, storage["account"], storage["container"], storage["token"], principal, need
    )


def _do_backup(
    _lab: Lab, tx: Tx, hsm: dict[str, Any], job: dict[str, Any], payload: dict[str, Any]
) -> None:
    from drengine.lab.blob import domain as blob  # noqa: PLC0415 - storage is another service

    _authorize(tx, hsm, payload, _BACKUP_NEEDS)
    storage, folder = payload["storage"], payload["folder"]
    blobs = vault.seal(
        snapshot(tx, hsm["name"]),
        state.domain_of(tx, hsm),
        hsm=hsm["display_name"],
        created_ms=tx.now_ms,
    )
    for name, content in blobs.items():
        blob.write_blob(tx, storage["account"], storage["container"], f"{folder}/{name}", content)
    hsm["backed_up_ms"] = tx.now_ms
    job["azureStorageBlobContainerUri"] = f"{storage['uri']}/{folder}"


def snapshot(tx: Tx, hsm: str) -> vault.Contents:
    """Return everything that a full backup holds."""

    def documents(kind: str) -> dict[str, dict[str, Any]]:
        return {key.removeprefix(f"{hsm}/"): one for key, one in tx.find(kind, f"{hsm}/")}

    return vault.Contents(
        keys=documents(keystore.KEY),
        deleted_keys=documents(keystore.DELETED_KEY),
        roles=documents(roles.ASSIGNMENT),
        definitions=documents(roles.DEFINITION),
    )


def _read_backup(tx: Tx, hsm: dict[str, Any], payload: dict[str, Any]) -> vault.Contents:
    from drengine.lab.blob import domain as blob  # noqa: PLC0415 - storage is another service

    _authorize(tx, hsm, payload, _RESTORE_NEEDS)
    storage, folder = payload["storage"], payload["folder"]

    def read(name: str) -> bytes | None:
        return blob.read_blob(tx, storage["account"], storage["container"], f"{folder}/{name}")

    return vault.unseal(read, state.domain_of(tx, hsm))


def _do_restore(
    lab: Lab, tx: Tx, hsm: dict[str, Any], _job: dict[str, Any], payload: dict[str, Any]
) -> None:
    found = missing_backup(lab.settings, hsm, tx.now_ms)
    if found is not None:
        raise vault.BackupError(found)
    contents = _read_backup(tx, hsm, payload)
    tx = regions.seen_from(tx, hsm, regions.writing_region(tx, hsm), lab.settings)
    for kind, documents in (
        (keystore.KEY, contents.keys),
        (keystore.DELETED_KEY, contents.deleted_keys),
        (roles.ASSIGNMENT, contents.roles),
        (roles.DEFINITION, contents.definitions),
    ):
        for key, _ in tx.find(kind, f"{hsm['name']}/"):
            tx.delete(kind, key)
        for key, document in documents.items():
            tx.put(kind, f"{hsm['name']}/{key}", document)
    for document in contents.keys.values():
        if document.get("rotation_policy"):
            rotation.plan(tx, hsm, document)


def _do_selective(
    lab: Lab, tx: Tx, hsm: dict[str, Any], job: dict[str, Any], payload: dict[str, Any]
) -> None:
    contents = _read_backup(tx, hsm, payload)
    tx = regions.seen_from(tx, hsm, regions.writing_region(tx, hsm), lab.settings)
    name = payload["key"].lower()
    wanted = contents.keys.get(name)
    if wanted is None:
        raise vault.BackupError(f"The backup holds no key named {payload['key']}.")
    key = keystore.key_id(hsm["name"], name)
    if tx.get(keystore.DELETED_KEY, key) is not None:
        raise vault.BackupError(f"The key {payload['key']} lies deleted; purge it first.")
    present = tx.get(keystore.KEY, key)
    kept = {one["version"] for one in present["versions"]} if present else set()
    restored = [one for one in wanted["versions"] if one["version"] not in kept]
    if present is None:
        tx.put(keystore.KEY, key, wanted)
    elif restored:
        present["versions"] = sorted(
            [*present["versions"], *restored], key=lambda one: int(one["attributes"]["created"])
        )
        tx.put(keystore.KEY, key, present)
    job["statusDetails"] = (
        f"Number of successful key versions restored: {len(restored)}, "
        f"Number of key versions could not overwrite: {len(wanted['versions']) - len(restored)}"
    )


def _check_backup(
    _lab: Lab, tx: Tx, hsm: dict[str, Any], job: dict[str, Any], payload: dict[str, Any]
) -> None:
    _authorize(tx, hsm, payload, _BACKUP_NEEDS)
    job["statusDetails"] = None


def _check_restore(
    _lab: Lab, tx: Tx, hsm: dict[str, Any], job: dict[str, Any], payload: dict[str, Any]
) -> None:
    _read_backup(tx, hsm, payload)
    job["statusDetails"] = None


_VERBS: Final = {
    "backup": _do_backup,
    "prebackup": _check_backup,
    "restore": _do_restore,
    "prerestore": _check_restore,
    "selective": _do_selective,
}
ROUTES: Final[tuple[Route, ...]] = tuple(
    Route(state.HOST, method, path, handler, "hsm", hsm_fault)
    for method, path, handler in (
        ("POST", "/backup", _backup),
        ("POST", "/prebackup", _prebackup),
        ("PUT", "/restore", _restore),
        ("PUT", "/prerestore", _prerestore),
        ("PUT", "/keys/(?P<name>[0-9a-zA-Z-]{1,127})/restore", _selective),
        ("GET", "/(?P<kind>backup|restore)/(?P<job>[0-9a-f]{32})/pending", _pending),
    )
)
