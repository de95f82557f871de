"""Everything that a runbook may name: plain mappings, nothing registers itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from drengine.actions import (
    backup,
    custodians,
    hsm,
    network,
    proof,
    proof_databases,
    security_domain,
    sql,
)
from drengine.actions.attachments import check_attestation, check_transcript
from drengine.actions.contract import Action, Kit
from drengine.actions.discover import DISCOVERERS, PARAMETERS
from drengine.actions.observe import OBSERVERS
from drengine.actions.security_domain import check_restore_blob
from drengine.model.catalogue import Catalogue
from drengine.rules.catalogue import RULES

_ALL: Final[tuple[Action, ...]] = (
    hsm.CREATE,
    network.NETWORK,
    hsm.GRANT,
    hsm.GRANT_SELF,
    security_domain.EXCHANGE_KEY,
    security_domain.UPLOAD,
    custodians.DOWNLOAD,
    backup.BACKUP,
    backup.CHECK_RESTORE,
    backup.RESTORE,
    proof.KEYS,
    proof.ROLES,
    proof_databases.DATABASES,
    sql.ROLES,
    sql.LINK_KEYS,
    sql.VALIDATE,
    sql.SET_PROTECTOR,
    sql.REEVALUATE,
)

ROLES: Final = frozenset(
    {"incident-commander", "security-officer", "hsm-administrator", "database-owner"}
)

KIT: Final = Kit(
    actions={action.spec.name: action for action in _ALL},
    rules=RULES,
    observers={**OBSERVERS, "new-custodians": custodians.observe_custodians},
    discoverers=DISCOVERERS,
    deliveries={"restore_blob": check_restore_blob},
    attachments={
        "ceremony_attestation": check_attestation,
        "ceremony_transcript": check_transcript,
    },
)

CATALOGUE: Final = Catalogue(
    actions={name: action.spec for name, action in KIT.actions.items()},
    rules=frozenset(RULES),
    observations=frozenset(KIT.observers),
    discoveries=PARAMETERS,
    delivery_kinds=frozenset(KIT.deliveries),
    roles=ROLES,
)

ACTIONS: Final[Mapping[str, Action]] = KIT.actions
