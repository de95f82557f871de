"""The quorum ceremony: from a security domain and its custodians' keys to a restore blob.

Pure rooms (bytes in, values out): `strict`, `compact`, `domain`, `blob` need no
cryptography; `kdf`, `shamir`, `jose`, `unseal`, `rewrap` hold the arithmetic.
`keyfile` reads key files, `hardening` shuts a process off, `child` is the only
process in which keys meet, `combine` starts it and writes what it answers.

Nothing is imported here, so that looking at a blob does not load cryptography.
"""
