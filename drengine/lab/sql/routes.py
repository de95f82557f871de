"""The routes and jobs of SQL Managed Instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from drengine.lab.sql import (
    activity,
    cycle,
    databases,
    failover,
    instances,
    keys,
    operations,
    protector,
)
from drengine.lab.wire import Route, arm_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from drengine.lab.wire import Auth, Handler
    from drengine.lab.world import Lab

ARM_HOST: Final = r"management\.azure\.com"
DATABASE_HOST: Final = r"[a-z0-9-]+\.[a-z0-9]+\.database\.windows\.net"

_SUB: Final = r"/subscriptions/(?P<sub>[^/]+)"
_RG: Final = _SUB + r"/resourceGroups/(?P<rg>[^/]+)"
_SQL: Final = r"/providers/Microsoft\.Sql"
_MI: Final = _RG + _SQL + r"/managedInstances/(?P<mi>[^/]+)"
_DB: Final = _MI + r"/databases/(?P<db>[^/]+)"
_GUID: Final = r"(?P<guid>[0-9a-f-]{36})"
_GROUPS: Final = _RG + _SQL + r"/locations/(?P<loc>[^/]+)/instanceFailoverGroups"
_GROUP: Final = _GROUPS + r"/(?P<name>[^/]+)"
_POLLS: Final = (
    _SUB + r"(?:/resourceGroups/[^/]+)?" + _SQL + r"/locations/[^/]+/(?P<family>[A-Za-z]+?)"
)


def _arm(method: str, path: str, handler: Handler) -> Route:
    return _route(ARM_HOST, method, path, handler, "arm")


def _route(host: str, method: str, path: str, handler: Handler, auth: Auth) -> Route:
    return Route(host, method, path, handler, auth, arm_fault)


ROUTES: Final[tuple[Route, ...]] = (
    _arm("GET", _POLLS + "AzureAsyncOperation/" + _GUID, operations.poll),
    _arm("GET", _POLLS + "OperationResults/" + _GUID, operations.results),
    _arm("GET", _SUB + _SQL + "/managedInstances", instances.list_all),
    _arm("GET", _RG + _SQL + "/managedInstances", instances.list_all),
    _arm("GET", _MI, instances.show),
    _arm("PATCH", _MI, instances.change),
    _arm("GET", _MI + "/operations", instances.list_operations),
    _arm("GET", _MI + "/operations/" + _GUID, instances.show_operation),
    _arm("GET", _MI + "/recoverableDatabases", instances.list_nothing),
    _arm("GET", _MI + "/privateEndpointConnections", instances.list_nothing),
    _arm("GET", _MI + "/outboundNetworkDependenciesEndpoints", instances.list_nothing),
    _arm("POST", _MI + "/validateAzureKeyVaultEncryptionKey", keys.validate),
    _arm("POST", _MI + "/reevaluateInaccessibleDatabaseState", databases.reevaluate),
    _arm("GET", _MI + "/inaccessibleManagedDatabases", databases.list_inaccessible),
    _arm("GET", _MI + "/keys", keys.list_keys),
    _arm("GET", _MI + "/keys/(?P<name>[^/]+)", keys.show),
    _arm("PUT", _MI + "/keys/(?P<name>[^/]+)", keys.link),
    _arm("DELETE", _MI + "/keys/(?P<name>[^/]+)", keys.unlink),
    _arm("GET", _MI + "/encryptionProtector", protector.list_all),
    _arm("GET", _MI + "/encryptionProtector/current", protector.show),
    _arm("PUT", _MI + "/encryptionProtector/current", protector.set_protector),
    _arm("POST", _MI + "/encryptionProtector/current/revalidate", protector.revalidate),
    _arm("GET", _MI + "/databases", databases.list_all),
    _arm("GET", _DB, databases.show),
    _arm("POST", _DB + "/reevaluateInaccessibleDatabaseState", databases.reevaluate),
    _arm("GET", _DB + "/transparentDataEncryption", databases.list_encryption),
    _arm("GET", _DB + "/transparentDataEncryption/current", databases.show_encryption),
    _arm("PUT", _DB + "/transparentDataEncryption/current", databases.set_encryption),
    _arm("GET", _GROUPS, failover.list_region),
    _arm("GET", _GROUP, failover.show),
    _arm("PUT", _GROUP, failover.put),
    _arm("DELETE", _GROUP, failover.delete),
    _arm("POST", _GROUP + "/failover", failover.fail_over),
    _arm("POST", _GROUP + "/forceFailoverAllowDataLoss", failover.force_fail_over),
    _arm(
        "GET",
        _SUB + r"/providers/(?:Microsoft\.)?Insights/eventtypes/management/values",
        activity.list_events,
    ),
    _route(DATABASE_HOST, "GET", "/databases/(?P<db>[^/]+)/canary", databases.canary, "none"),
)

JOBS: Final[Mapping[str, Callable[[Lab, dict[str, Any]], None]]] = {
    "sql.check": cycle.check_job,
    "sql.group.create": failover.create_job,
    "sql.group.delete": failover.delete_job,
    "sql.group.failover": failover.failover_job,
    "sql.group.update": failover.update_job,
    "sql.key.link": keys.link_job,
    "sql.key.unlink": keys.unlink_job,
    "sql.key.validate": keys.validate_job,
    "sql.mi.update": instances.update_job,
    "sql.protector.revalidate": protector.revalidate_job,
    "sql.protector.set": protector.set_job,
    "sql.reevaluate": databases.reevaluate_job,
}
