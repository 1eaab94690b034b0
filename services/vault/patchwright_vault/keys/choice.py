"""Which holder of keys an operator chose, from the vault's settings."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, Field, SecretStr

from patchwright_common.errors import Permanent
from patchwright_vault.keys.environment import VARIABLE, EnvironmentKeys
from patchwright_vault.keys.file import FileKeys
from patchwright_vault.keys.hsm import Pkcs11Keys, TokenSettings
from patchwright_vault.keys.protocol import Keys
from patchwright_vault.keys.thread import Thread

DEFAULT_FILE = Path("~/.local/state/patchwright/vault.key")


class KeySettings(BaseModel):
    """A part of the vault's settings: a token if one is named, else the environment, else a file.

    Variables that are set but empty are as if not there.
    """

    vault_key_file: Path = Field(
        default=DEFAULT_FILE,
        description="The key-encryption keys; made with mode 0600 when missing.",
    )
    vault_keys: SecretStr = Field(
        default=SecretStr(""),
        description="The keys themselves, `2:hex,1:hex`, the current one first.",
    )
    vault_pkcs11_library: Path | None = Field(
        default=None, description="A PKCS#11 module; the keys are made in its token."
    )
    vault_pkcs11_token: str = Field(default="", description="The token's label.")
    vault_pkcs11_pin: SecretStr = Field(default=SecretStr(""), description="The user's PIN.")
    vault_pkcs11_pin_file: Path | None = Field(default=None, description="Or the file with it.")


def chosen_keys(settings: KeySettings) -> Keys:
    """Raises `Permanent` for settings that contradict each other or lack something."""
    library = _path(settings.vault_pkcs11_library)
    given = bool(settings.vault_keys.get_secret_value().strip())
    if library and given:
        raise Permanent(f"{VARIABLE} and PATCHWRIGHT_VAULT_PKCS11_LIBRARY exclude each other.")
    if library:
        return Pkcs11Keys(_token(library, settings), Thread("the token"))
    if given:
        return EnvironmentKeys(settings.vault_keys)
    return FileKeys((_path(settings.vault_key_file) or DEFAULT_FILE).expanduser())


def _token(library: Path, settings: KeySettings) -> TokenSettings:
    pin = _pin(settings)
    if not (settings.vault_pkcs11_token and pin.get_secret_value()):
        raise Permanent(
            "PATCHWRIGHT_VAULT_PKCS11_LIBRARY needs PATCHWRIGHT_VAULT_PKCS11_TOKEN, and "
            "PATCHWRIGHT_VAULT_PKCS11_PIN or PATCHWRIGHT_VAULT_PKCS11_PIN_FILE."
        )
    return TokenSettings(library.expanduser(), settings.vault_pkcs11_token, pin)


def _pin(settings: KeySettings) -> SecretStr:
    path = _path(settings.vault_pkcs11_pin_file)
    if path is None:
        return settings.vault_pkcs11_pin
    try:
        with os.fdopen(os.open(path.expanduser(), os.O_RDONLY)) as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise Permanent(f"The token's PIN file is open to others: chmod 600 {path}")
            return SecretStr(file.read().strip())
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Permanent(f"The token's PIN file {path} cannot be read: {why}.") from None


def _path(path: Path | None) -> Path | None:
    # Compose files hand over variables that are not set as empty ones: Path("") is Path(".").
    return None if path is None or path == Path() else path
