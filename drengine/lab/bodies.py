"""What the members of a request's body have to be, whatever the service.

The real services bind a body to typed models before they look at it, and refuse one that
does not fit. Here one table of member names says as much, so that no handler meets text
where it expects an object.

Rules:
- only names that handlers read are listed; others pass as they are;
- null stands for a member that was left out;
- names that the caller chooses (tags, identities by id) are not looked at, only their values;
- text that is not valid Unicode is refused everywhere: it could not be stored or sent back.

It does not look at values beyond their type; that is the handlers' own.
"""

from __future__ import annotations

from typing import Any, Final

MOST_DEPTH: Final = 64
MOST_NUMBER: Final = 2**53

_OBJECTS: Final = frozenset(
    {
        "action",
        "addressSpace",
        "attributes",
        "identity",
        "key",
        "networkAcls",
        "privateEndpoint",
        "privateLinkServiceConnectionState",
        "properties",
        "readOnlyEndpoint",
        "readWriteEndpoint",
        "release_policy",
        "remoteVirtualNetwork",
        "sasTokenParameters",
        "sku",
        "subnet",
        "tags",
        "trigger",
        "userAssignedIdentities",
        "virtualNetwork",
    }
)
_LISTS_OF_OBJECTS: Final = frozenset(
    {
        "aRecords",
        "accessPolicies",
        "ipRules",
        "lifetimeActions",
        "managedInstancePairs",
        "partnerRegions",
        "privateDnsZoneConfigs",
        "privateLinkServiceConnections",
        "regions",
        "serviceTags",
        "subnets",
        "virtualNetworkPeerings",
        "virtualNetworkRules",
    }
)
_LISTS_OF_TEXT: Final = frozenset(
    {
        "actions",
        "addressPrefixes",
        "assignableScopes",
        "dataActions",
        "groupIds",
        "initialAdminObjectIds",
        "key_ops",
        "keys",
        "notActions",
        "notDataActions",
        "x5c",
    }
)
_TEXTS: Final = frozenset(
    {
        *("aad", "addressPrefix", "alg", "createMode", "crv", "data", "description", "digest"),
        *("failoverPolicy", "folder", "folderToRestore", "id", "ipv4Address", "iv"),
        *("kty", "location", "name", "objectId", "partnerManagedInstanceId", "principalId"),
        *("primaryManagedInstanceId", "primaryUserAssignedIdentityId", "privateDnsZoneId"),
        *("privateLinkServiceId", "roleDefinitionId", "roleName", "serverKeyName"),
        *("serverKeyType", "state", "storageResourceUri", "tag", "tdeKeyUri"),
        *("tenantId", "timeAfterCreate", "timeBeforeExpiry", "expiryTime", "token", "type", "uri"),
        "value",
    }
)
_NUMBERS: Final = frozenset({"count", "exp", "key_size", "nbf", "required", "ttl"})
_NUMBERS_OR_TEXT: Final = frozenset({"softDeleteRetentionInDays"})
_MAPS: Final = frozenset({"tags", "userAssignedIdentities"})


def misfit(document: object, depth: int = 0) -> str:
    """Return what is wrong with a body or with anything in it, empty where nothing is."""
    if depth > MOST_DEPTH:
        return "The request body is nested too deeply."
    if isinstance(document, str):
        return _misfit_of_text(document)
    if isinstance(document, list):
        return next(filter(None, (misfit(item, depth + 1) for item in document)), "")
    if isinstance(document, dict):
        return next(filter(None, (_misfit_of_member(*one, depth) for one in document.items())), "")
    return ""


def _misfit_of_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "The request body is not valid Unicode."
    return ""


def _misfit_of_member(name: str, value: Any, depth: int) -> str:
    expected = "" if value is None or _fits(name, value) else _EXPECTED[_kind(name)]
    if expected:
        return f"Property {name} has an invalid value: expected {expected}."
    if name in _MAPS and isinstance(value, dict):
        value = [list(pair) for pair in value.items()]  # the caller's own names are text here
    return _misfit_of_text(name) or misfit(value, depth + 1)


_EXPECTED: Final = {
    "object": "an object",
    "objects": "a list of objects",
    "texts": "a list of strings",
    "text": "a string",
    "number": "a number",
    "numeric": "a number",
    "any": "",
}


def _kind(name: str) -> str:
    for kind, names in (
        ("object", _OBJECTS),
        ("objects", _LISTS_OF_OBJECTS),
        ("texts", _LISTS_OF_TEXT),
        ("text", _TEXTS),
        ("number", _NUMBERS),
        ("numeric", _NUMBERS_OR_TEXT),
    ):
        if name in names:
            return kind
    return "any"


def _fits(name: str, value: Any) -> bool:
    kind = _kind(name)
    if kind == "object":
        return isinstance(value, dict)
    if kind == "objects":
        return isinstance(value, list) and all(isinstance(one, dict) for one in value)
    if kind == "texts":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if kind == "text":
        return isinstance(value, str)
    if kind == "number":
        return _is_number(value)
    if kind == "numeric":
        return _is_number(value) or (isinstance(value, str) and value.isascii() and value.isdigit())
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST_NUMBER
