"""Azure behind Protocols: one HTTP pipeline, authentication, one module per service."""

import platform

# Azure's libraries put `platform.platform()` into their user agents, which starts `uname -p`
# with the operator's whole environment, secrets by name included. The answer is kept in the
# instance: a processor that is known already, if only as unknown, is not asked for.
vars(platform.uname()).setdefault("processor", "")
