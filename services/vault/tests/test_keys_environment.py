"""Keys in the environment: only the operator changes them, and is told how."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from patchwright_common.errors import Permanent
from patchwright_vault.keys.choice import KeySettings, chosen_keys
from patchwright_vault.keys.environment import EnvironmentKeys
from patchwright_vault.keys.file import FileKeys

ONE, TWO = "11" * 32, "22" * 32


async def test_first_key_is_current_whatever_its_number() -> None:
    keys = EnvironmentKeys(SecretStr(f"3:{ONE},7:{TWO}"))
    assert await keys.versions() == (3, 7)
    assert (await keys.wrap(b"x", b""))[0] == 3


async def test_key_without_a_version_is_the_first() -> None:
    assert await EnvironmentKeys(SecretStr(f" {ONE}\n")).versions() == (1,)


async def test_rotation_is_refused_with_what_to_do_instead() -> None:
    keys = EnvironmentKeys(SecretStr(f"2:{TWO},1:{ONE}"))
    with pytest.raises(Permanent) as refused:
        await keys.rotate()
    assert "Nothing was changed" in refused.value.reason
    assert "`3:<the key>`" in refused.value.advice
    assert await keys.versions() == (2, 1)


async def test_retirement_is_refused_with_what_to_do_instead() -> None:
    keys = EnvironmentKeys(SecretStr(f"2:{TWO},1:{ONE}"))
    with pytest.raises(Permanent) as refused:
        await keys.retire(1)
    assert "Remove `1:" in refused.value.advice
    assert await keys.versions() == (2, 1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (",", "empty"),
        ("secret", "hex"),
        (f"1:{ONE},2:secret", "entry 2 of 2"),
        (f"0:{ONE}", "hex"),
        (f"01:{ONE}", "hex"),
        (f"-1:{ONE}", "hex"),
        (f"9999999999:{ONE}", "above"),
        ("1:" + "11" * 31, "31 bytes"),
        (f"1:{ONE},1:{TWO}", "version 1 twice"),
        (f"1:{ONE},2:{ONE}", "one key under two versions"),
        (f"2:{TWO};1:{ONE}", "hex"),
    ],
)
def test_keys_that_cannot_be_read_are_refused_without_quoting(text: str, why: str) -> None:
    with pytest.raises(Permanent) as refused:
        EnvironmentKeys(SecretStr(text))
    assert why in refused.value.reason
    assert not any(part in refused.value.reason for part in ("secret", "1111", "2222"))


def test_choice_of_two_holders_is_refused() -> None:
    with pytest.raises(Permanent, match="exclude each other"):
        chosen_keys(KeySettings(vault_keys=SecretStr(ONE), vault_pkcs11_library="/lib/x.so"))


def test_empty_variables_choose_the_file() -> None:
    settings = KeySettings(vault_keys=SecretStr(""), vault_pkcs11_library="", vault_key_file="")
    keys = chosen_keys(settings)
    assert isinstance(keys, FileKeys)
    assert keys.where.endswith(".local/state/patchwright/vault.key")
    assert "~" not in keys.where
