"""The three ways an approver signs: a key file, an SSH key, a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drengine.trust.dsse import IN_TOTO, Envelope, Signature, pae
from drengine.trust.keys import PrivateKey, keyid_of, public_pem, sign
from drengine.trust.outside import cms_sign, ssh_sign
from drengine.trust.register import key_id


class Signer(Protocol):
    """Something that signs."""

    @property
    def keyid(self) -> str:
        """The id of its public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the signature over `data`."""
        ...


@dataclass(frozen=True, slots=True)
class KeySigner:
    """A P-256 key in this process."""

    key: PrivateKey

    @property
    def keyid(self) -> str:
        """The id of its public key."""
        return keyid_of(public_pem(self.key))

    def sign(self, data: bytes) -> bytes:
        """Return the signature over `data`."""
        return sign(self.key, data)


@dataclass(frozen=True, slots=True)
class SshSigner:
    """An SSH key: a file, or one of an agent or token whose public half is given."""

    path: Path
    public: str

    @property
    def keyid(self) -> str:
        """The id of its public key."""
        return key_id("ssh", self.public)

    def sign(self, data: bytes) -> bytes:
        """Return the signature over `data`."""
        return ssh_sign(self.path, data)


@dataclass(frozen=True, slots=True)
class CmsSigner:
    """A certificate and where its key is."""

    path: Path
    certificate: str
    key: str

    @property
    def keyid(self) -> str:
        """The id of the certificate."""
        return key_id("cms", self.certificate)

    def sign(self, data: bytes) -> bytes:
        """Return the signature over `data`."""
        return cms_sign(self.path, self.key, data)


def signed(payload: bytes, signer: Signer, payload_type: str = IN_TOTO) -> Envelope:
    """Return a payload with one signature."""
    signature = Signature(signer.keyid, signer.sign(pae(payload_type, payload)))
    return Envelope(payload_type, payload, (signature,))
