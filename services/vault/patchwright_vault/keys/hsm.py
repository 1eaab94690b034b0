"""Keys in a PKCS#11 token: an HSM, or a cloud's KMS through its PKCS#11 library.

The keys are made in the token, are not extractable, and never leave it: data keys go in
and come back wrapped (CKM_AES_GCM, the context as associated data). A version is a key
with the label `<prefix>-<version>` and a random CKA_ID. Where two vaults made the same
version at once there are two keys with it; what is wrapped starts with its key's CKA_ID,
so both open, and the one with the smaller CKA_ID wraps.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import pkcs11
from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, ObjectClass
from pydantic import SecretStr

from patchwright_common.errors import Permanent, Retry
from patchwright_vault.keys.protocol import (
    KEY_BYTES,
    ChangedError,
    OtherKeyError,
    UnknownVersionError,
)
from patchwright_vault.keys.thread import Thread

if TYPE_CHECKING:
    from pkcs11.types import Session, Token

HOLDER = "the vault's token"
TIME_LIMIT = 5.0
"""Seconds for one exchange with the token."""
_ID_BYTES = 8
_NONCE_BYTES = 12
_TAG_BYTES = 16
_WRONG_PIN = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinLocked)
_REFUSED = (  # what SoftHSM and others say of a tag that does not fit
    pkcs11.EncryptedDataInvalid,
    pkcs11.EncryptedDataLenRange,
    pkcs11.DataInvalid,
    pkcs11.GeneralError,
    pkcs11.FunctionFailed,
)


class _EmptyError(Exception):
    """The session sees no key of the vault."""


P = ParamSpec("P")
Result = TypeVar("Result")


@dataclass(frozen=True)
class TokenSettings:
    """`module` is the PKCS#11 library (.so), `prefix` begins the labels of the vault's keys."""

    module: Path
    token: str
    pin: SecretStr = field(repr=False)
    prefix: str = "patchwright-vault"


@dataclass(frozen=True)
class _Held:
    version: int
    id: bytes
    key: Any  # an AES key, which can encrypt; the library's types do not say so


class Pkcs11Keys:
    """The vault's keys in one token. Raises `Retry` when the token does not answer in time.

    All that uses the library in a process shares one `thread`: it is not told to lock.
    """

    def __init__(
        self, settings: TokenSettings, thread: Thread, *, time_limit: float = TIME_LIMIT
    ) -> None:
        self._settings = settings
        self._thread = thread
        self._time_limit = time_limit
        self._session: Session | None = None  # the thread's own
        self._was_open = False

    @property
    def where(self) -> str:
        """With the token's label."""
        return f"the token {self._settings.token!r}"

    async def begin(self) -> None:
        """Make version 1 in the token unless there is a version."""
        if not await self.versions():
            await self._ask(_made, self._settings.prefix, 1)

    async def versions(self) -> tuple[int, ...]:
        """As the token has them now."""
        try:
            held = await self._ask(_held, self._settings.prefix)
        except _EmptyError:
            return ()
        return tuple(dict.fromkeys(each.version for each in held))

    async def wrap(self, data_key: bytes, context: bytes) -> tuple[int, bytes]:
        """Inside the token, with the version that is the highest at this moment."""
        return await self._use(_wrapped, self._settings.prefix, data_key, context)

    async def unwrap(self, version: int, wrapped: bytes, context: bytes) -> bytes:
        """Inside the token."""
        return await self._use(_unwrapped, self._settings.prefix, version, wrapped, context)

    async def rotate(self) -> int:
        """A new key, made by the token."""
        return await self._use(_rotated, self._settings.prefix)

    async def retire(self, version: int) -> None:
        """Destroy it in the token."""
        await self._use(_retired, self._settings.prefix, version)

    async def legacy(self) -> bytes | None:
        """A key in a token cannot be had."""
        return None

    async def _use(
        self, use: Callable[Concatenate[Session, P], Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """As `_ask`, for what needs a key."""
        try:
            return await self._ask(use, *args, **kwargs)
        except _EmptyError:
            raise Permanent(
                f"The vault's records cannot be opened: {self.where} has no key of the vault's "
                "any more. Nothing was overwritten."
            ) from None

    async def _ask(
        self, ask: Callable[Concatenate[Session, P], Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """In the thread. Raises `_EmptyError` as `ask` does."""
        return await self._thread.run(
            lambda: self._asked(lambda session: ask(session, *args, **kwargs)),
            timeout=self._time_limit,
        )

    def _asked(self, ask: Callable[[Session], Result]) -> Result:
        """Once more in a new session: one may be lost, and without its login it sees no keys."""
        try:
            try:
                return ask(self._opened())
            except (pkcs11.PKCS11Error, _EmptyError):
                self._close()
                return ask(self._opened())
        except pkcs11.PKCS11Error as error:
            self._close()
            raise Retry(f"{self.where} did not answer: {type(error).__name__}") from None

    def _close(self) -> None:
        """Tokens have few sessions to give."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(pkcs11.PKCS11Error):
                session.close()

    def _opened(self) -> Session:
        if self._session is None:
            self._session = self._open()
        return self._session

    def _open(self) -> Session:
        """Raises `Permanent` for what an operator has to mend."""
        given = self._settings
        try:
            token: Token = self._library().get_token(token_label=given.token)
            if Mechanism.AES_GCM not in token.slot.get_mechanisms():
                raise Permanent(f"{self.where} cannot do AES-GCM (CKM_AES_GCM).")
            session = _logged_in(token, given.pin)
        except _WRONG_PIN as error:
            # Not tried again by itself: tokens lock after a few wrong PINs.
            raise Permanent(
                f"{self.where} does not take the PIN ({type(error).__name__}). "
                "Nothing was overwritten.",
                advice="Check PATCHWRIGHT_VAULT_PKCS11_PIN or its file.",
            ) from None
        except (pkcs11.NoSuchToken, pkcs11.MultipleTokensReturned):
            if self._was_open:
                raise  # it went away, and may come back
            raise Permanent(
                f"There is not one token {given.token!r} behind {given.module}. "
                "Nothing was overwritten.",
                advice="Check PATCHWRIGHT_VAULT_PKCS11_TOKEN; "
                "`pkcs11-tool --list-token-slots` shows the labels.",
            ) from None
        self._was_open = True
        return session

    def _library(self) -> Any:
        path = self._settings.module
        try:
            return pkcs11.lib(str(path))
        except RuntimeError as error:
            if type(error) is not pkcs11.PKCS11Error and isinstance(error, pkcs11.PKCS11Error):
                raise  # it is one, and has trouble of its own
            raise Permanent(
                f"{path} cannot be loaded as a PKCS#11 library.",
                advice="Check PATCHWRIGHT_VAULT_PKCS11_LIBRARY.",
            ) from None


def _logged_in(token: Token, pin: SecretStr) -> Session:
    """The login belongs to the process: it may have outlived the session before."""
    try:
        return token.open(user_pin=pin.get_secret_value(), rw=True)
    except pkcs11.UserAlreadyLoggedIn:
        return token.open(rw=True)


def _held(session: Session, prefix: str) -> list[_Held]:
    """The current one first. Raises `_EmptyError` when there is none."""
    pattern = re.compile(rf"{re.escape(prefix)}-([1-9][0-9]{{0,8}})")
    wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES}
    found = [
        _Held(int(label[1]), bytes(key[Attribute.ID]), key)
        for key in session.get_objects(wanted)
        if (label := pattern.fullmatch(str(key[Attribute.LABEL])))
    ]
    if not found:
        raise _EmptyError
    return sorted(found, key=lambda held: (-held.version, held.id))


def _rotated(session: Session, prefix: str) -> int:
    version = _held(session, prefix)[0].version + 1
    _made(session, prefix, version)
    return version


def _made(session: Session, prefix: str, version: int) -> None:
    session.generate_key(
        KeyType.AES,
        256,
        label=f"{prefix}-{version}",
        id=secrets.token_bytes(_ID_BYTES),
        store=True,
        capabilities=pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT,
        template={
            Attribute.PRIVATE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
            Attribute.MODIFIABLE: False,
        },
    )


def _wrapped(session: Session, prefix: str, data_key: bytes, context: bytes) -> tuple[int, bytes]:
    current = _held(session, prefix)[0]
    return current.version, current.id + _encrypted(current.key, data_key, context)


def _unwrapped(
    session: Session, prefix: str, version: int, wrapped: bytes, context: bytes
) -> bytes:
    held = _held(session, prefix)
    same = [h for h in held if h.version == version]
    if not same:
        raise UnknownVersionError(version, HOLDER, tuple({h.version for h in held}))
    own = [h for h in same if h.id == wrapped[:_ID_BYTES]]
    if not own:
        raise OtherKeyError(version, HOLDER)
    key, sealed = own[0].key, wrapped[_ID_BYTES:]
    try:
        return _decrypted(key, sealed, context)
    except _REFUSED:
        pass
    # Libraries say the same of a tag that does not fit and of a fault of theirs: ask for
    # something that must open. Raises a `PKCS11Error` if the token is at fault.
    _decrypted(key, _encrypted(key, secrets.token_bytes(KEY_BYTES), context), context)
    raise ChangedError


def _encrypted(key: Any, data: bytes, context: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    parameters = GCMParams(nonce, context, 128)
    return nonce + bytes(key.encrypt(data, mechanism=Mechanism.AES_GCM, mechanism_param=parameters))


def _decrypted(key: Any, sealed: bytes, context: bytes) -> bytes:
    if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
        raise ChangedError
    parameters = GCMParams(sealed[:_NONCE_BYTES], context, 128)
    ciphertext = sealed[_NONCE_BYTES:]
    return bytes(key.decrypt(ciphertext, mechanism=Mechanism.AES_GCM, mechanism_param=parameters))


def _retired(session: Session, prefix: str, version: int) -> None:
    held = _held(session, prefix)
    if held[0].version == version:
        raise Permanent(f"Key version {version} is the current one: rotate before retiring it.")
    for each in held:
        if each.version == version:
            each.key.destroy()
