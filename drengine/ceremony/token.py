"""A custodian's key in a PKCS#11 token: the private key never leaves it.

The only importer of `pkcs11` (extra `drengine[pkcs11]`), and only in a child process.

Rules:
- The modulus is compared with the certificate before anything is decrypted.
- A PIN is tried once. Tokens lock themselves; a second try is a person's decision.
- OAEP with SHA-256 runs in the token where it can. Where the token refuses the
  mechanism, it does the raw RSA operation and `oaep` takes the padding off.
- The content key that the token gives back is in this process's memory; the RSA key is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from drengine.ceremony.contribution import HolderFacts
from drengine.ceremony.fields import MAX_TEXT
from drengine.ceremony.jose import CONTENT_KEY_BYTES
from drengine.ceremony.modules import trusted_module
from drengine.ceremony.oaep import unpad_oaep
from drengine.errors import CeremonyError, ShareError

if TYPE_CHECKING:
    from drengine.ceremony.messages import TokenSource

# GeneralError and FunctionFailed are what some tokens say of a ciphertext that is not theirs.
_DOES_NOT_OPEN: Final = (
    "EncryptedDataInvalid",
    "EncryptedDataLenRange",
    "DataInvalid",
    "DataLenRange",
    "GeneralError",
    "FunctionFailed",
)
_USUAL_EXPONENT: Final = b"\x01\x00\x01"


@contextmanager
def open_token(source: TokenSource, expected: RSAPublicKey) -> Iterator[TokenKey]:
    """Open the token's session and find the private key with the expected modulus.

    Raises:
        ShareError: no module, token or key, a wrong PIN, or another key.
    """
    try:
        import pkcs11  # noqa: PLC0415 - an optional extra, and only here
    except ImportError:
        raise ShareError(
            "reading a token: the Python package 'python-pkcs11' is not installed",
            hint="pip install 'drengine[pkcs11]'",
        ) from None
    token = _find_token(pkcs11, source)
    try:
        with token.open(user_pin=source.pin.decode()) as session:
            yield _find_key(pkcs11, session, token, source, expected)
    except pkcs11.PKCS11Error as error:
        raise _refused(error, source) from None
    except UnicodeDecodeError:
        raise ShareError("the PIN is not text; the token was not asked") from None


class TokenKey:
    """An open private key in a token."""

    def __init__(self, pkcs11: Any, key: Any, public_key: RSAPublicKey, facts: HolderFacts) -> None:
        self._pkcs11 = pkcs11
        self._key = key
        self._public_key = public_key
        self.facts = facts

    @property
    def public_key(self) -> RSAPublicKey:
        """The public half."""
        return self._public_key

    def unwrap(self, wrapped_key: bytes) -> bytes:
        """Undo RSA-OAEP-256, in the token where it can.

        Raises:
            CeremonyError: this key does not open it.
        """
        pkcs11 = self._pkcs11
        parameters = (pkcs11.Mechanism.SHA256, pkcs11.MGF.SHA256, None)
        try:
            opened = self._key.decrypt(
                wrapped_key,
                mechanism=pkcs11.Mechanism.RSA_PKCS_OAEP,
                mechanism_param=parameters,
            )
        except _unsupported(pkcs11):
            return self._unwrap_raw(wrapped_key)
        except pkcs11.PKCS11Error as error:
            raise _unopened(error) from None
        self._note("oaep-in-token")
        return bytes(opened)

    def _unwrap_raw(self, wrapped_key: bytes) -> bytes:
        pkcs11 = self._pkcs11
        try:
            block = self._key.decrypt(wrapped_key, mechanism=pkcs11.Mechanism.RSA_X_509)
        except _unsupported(pkcs11) as error:
            raise CeremonyError(
                f"the token does neither OAEP with SHA-256 nor raw RSA ({type(error).__name__})"
            ) from None
        except pkcs11.PKCS11Error as error:
            raise _unopened(error) from None
        self._note("raw-rsa-in-token")
        return unpad_oaep(bytes(block), len(wrapped_key), CONTENT_KEY_BYTES)

    def _note(self, unwrap: str) -> None:
        found = self.facts
        self.facts = HolderFacts(
            kind=found.kind,
            encrypted=found.encrypted,
            token_label=found.token_label,
            token_serial=found.token_serial,
            extractable=found.extractable,
            never_extractable=found.never_extractable,
            unwrap=unwrap,
        )


def _unsupported(pkcs11: Any) -> tuple[type[Exception], ...]:
    """What a token says of a mechanism that it does not have."""
    return (
        pkcs11.ArgumentsBad,
        pkcs11.MechanismParamInvalid,
        pkcs11.MechanismInvalid,
        pkcs11.FunctionNotSupported,
    )


def _unopened(error: Exception) -> Exception:
    """Return what a failed decryption says of the share; of the token itself, the error."""
    name = type(error).__name__
    if name not in _DOES_NOT_OPEN:
        return error  # the token went away or wants something: no word about the share
    return CeremonyError(f"this key does not open it (the token says {name})")


def _find_token(pkcs11: Any, source: TokenSource) -> Any:
    module = trusted_module(source.module)
    try:
        slots = pkcs11.lib(str(module)).get_slots(token_present=True)
    except (pkcs11.PKCS11Error, RuntimeError) as error:
        raise ShareError(
            f"the PKCS#11 module {source.module} does not start: {type(error).__name__}"
        ) from None
    tokens = [token for slot in slots if (token := _token_in(pkcs11, slot)) is not None]
    fitting = [
        token
        for token in tokens
        if _plain(token.label) == source.token_label
        and source.token_serial in ("", _serial_of(token))
    ]
    if len(fitting) != 1:
        seen = ", ".join(f"{_plain(t.label)!r} ({_serial_of(t)})" for t in tokens) or "none"
        raise ShareError(
            f"{len(fitting)} tokens are labelled {source.token_label!r}; tokens here: {seen}",
            hint="Is the token plugged in? Two of one label are told apart by --token-serial.",
        )
    return fitting[0]


def _token_in(pkcs11: Any, slot: Any) -> Any:
    """Return the token in a slot, None where it is none that this module reads."""
    try:
        return slot.get_token()
    except pkcs11.PKCS11Error:
        return None


def _find_key(
    pkcs11: Any, session: Any, token: Any, source: TokenSource, expected: RSAPublicKey
) -> TokenKey:
    wanted: dict[Any, Any] = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}
    if source.key_label:
        wanted[pkcs11.Attribute.LABEL] = source.key_label
    public_keys = []
    for key in session.get_objects(wanted):
        public_key = _public_key_of(pkcs11, key)
        if public_key is None:
            continue
        if public_key == expected:
            return TokenKey(pkcs11, key, public_key, _facts_of(pkcs11, key, token))
        public_keys.append(public_key)
    raise ShareError(
        f"the token {source.token_label!r} holds {len(public_keys)} RSA keys, and none of them "
        "belongs to the certificate; nothing was decrypted",
        hint="Give the certificate of this token's key with --cert, or another token.",
    )


def _public_key_of(pkcs11: Any, key: Any) -> RSAPublicKey | None:
    try:
        modulus = int.from_bytes(key[pkcs11.Attribute.MODULUS], "big")
    except (pkcs11.PKCS11Error, AttributeError):
        return None
    try:
        exponent = key[pkcs11.Attribute.PUBLIC_EXPONENT]
    except (pkcs11.PKCS11Error, AttributeError):
        exponent = _USUAL_EXPONENT  # a private key need not carry it
    try:
        return RSAPublicNumbers(int.from_bytes(exponent, "big"), modulus).public_key()
    except ValueError:
        return None


def _facts_of(pkcs11: Any, key: Any, token: Any) -> HolderFacts:
    return HolderFacts(
        kind="pkcs11",
        encrypted=True,
        token_label=_plain(token.label),
        token_serial=_serial_of(token),
        extractable=_answer(pkcs11, key, pkcs11.Attribute.EXTRACTABLE),
        never_extractable=_answer(pkcs11, key, pkcs11.Attribute.NEVER_EXTRACTABLE),
        unwrap="oaep-in-token",
    )


def _answer(pkcs11: Any, key: Any, attribute: Any) -> str:
    try:
        return "yes" if key[attribute] else "no"
    except (pkcs11.PKCS11Error, AttributeError):
        return "unknown"


def _serial_of(token: Any) -> str:
    serial = token.serial
    return _plain(serial.decode("latin-1") if isinstance(serial, bytes) else str(serial))


def _plain(text: str) -> str:
    shown = "".join(sign if sign.isprintable() else "?" for sign in text.strip(" \0"))
    return shown[:MAX_TEXT]


def _refused(error: Exception, source: TokenSource) -> ShareError:
    name = type(error).__name__
    where = f"the token {source.token_label!r}"
    if name in ("PinIncorrect", "PinInvalid", "PinLenRange"):
        return ShareError(
            f"{where} refuses the PIN; it was tried once and is not tried again",
            hint="Tokens lock after a few wrong PINs. Make sure of the PIN, then run it again.",
        )
    if name == "PinLocked":
        return ShareError(
            f"{where} is locked after too many wrong PINs",
            hint="Its security officer unlocks it; meanwhile another custodian can contribute.",
        )
    if name in ("DeviceRemoved", "TokenNotPresent", "DeviceError", "SessionHandleInvalid"):
        return ShareError(f"{where} went away while it was used; nothing was sent", hint="Again.")
    return ShareError(f"{where} refuses: {name}; nothing was sent")
