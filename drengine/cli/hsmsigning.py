"""Asking the recovered HSM to sign a bundle's manifest."""

from __future__ import annotations

import asyncio
from pathlib import Path

from drengine.actions.names import hsm_uri
from drengine.azure.auth import AuthKind
from drengine.cli.signin import check_identity, signed_in
from drengine.errors import InputFileError, NotAuthorized
from drengine.evidence.bundle import HSM_SIGNATURE
from drengine.evidence.recovered import Question, keep_signature, question_of
from drengine.journal.files import write_whole


def sign_by_hsm(bundle: Path, key: str, auth: AuthKind) -> str:
    """Have a bundle's manifest signed; return the key that did.

    Raises:
        NotAuthorized: policy does not let this principal sign; the bundle is as it was.
        InputError: no such key, or the signature does not fit the recorded public half.
        InputFileError: the bundle cannot be read or written.
    """
    question = question_of(bundle, key)
    signature = asyncio.run(_ask(question, auth))
    try:
        write_whole(bundle / HSM_SIGNATURE, keep_signature(bundle, question, signature))
    except OSError as error:
        raise InputFileError(
            f"writing {bundle / HSM_SIGNATURE}: {error.strerror}; nothing was left there"
        ) from None
    return f"{question.target}/{question.path.removeprefix('keys/')}"


async def _ask(question: Question, auth: AuthKind) -> bytes:
    async with signed_in(auth) as session:
        check_identity(question.plan.cloud, session.where)
        uri = hsm_uri(question.target, session.where.hsm_suffix)
        digest = bytes.fromhex(question.sha256)
        try:
            return await session.cloud.hsm(uri).sign(
                f"{uri}{question.path}", question.algorithm, digest
            )
        except NotAuthorized as error:
            error.hint = (
                "Signing needs the role Managed HSM Crypto User on the key; policy may give it to"
                " nobody. The bundle is sealed and verifies without this signature."
            )
            raise
