"""`just secrets`: secrets go in by file or pipe, and none of them ever comes out."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.nats import NatsServer, connected
from patchwright_common.credentials import AppFacts
from patchwright_common.errors import Permanent
from patchwright_common.requests import SETUP
from patchwright_local.bringing import AppWords, as_app
from patchwright_local.vault_access import VaultAccess, administered

from .operating import SECRETS, Said, Terminal, operating, rsa_pem

CANARY = "sk-canary-4f11c0ffee"
NAMES = "github-app, webhook-secret, model-key"


@pytest.fixture
async def terminal(nats: NatsServer, tmp_path: Path) -> AsyncIterator[Terminal]:
    async with operating(nats, tmp_path) as ready:
        yield ready


@pytest.fixture(scope="module")
def pem() -> str:
    return rsa_pem()


def rows(said: Said) -> dict[str, list[str]]:
    assert said.code == 0, said.err
    header, *lines = [line.split() for line in said.out.splitlines() if line.strip()]
    assert header == ["name", "version", "key", "version", "changed"]
    return {words[0]: words[1:] for words in lines}


async def test_value_comes_from_a_pipe_and_is_listed_without_itself(terminal: Terminal) -> None:
    said = await terminal.secrets("set", "model-key", stdin=f"{CANARY}\n")
    assert (said.code, said.out) == (0, "model-key: stored\n")
    again = await terminal.secrets("set", "model-key", "--file", "-", stdin=CANARY)
    assert again.out == "model-key: unchanged\n"
    listing = await terminal.secrets("list")
    assert rows(listing)["model-key"][:2] == ["1", "1"]
    assert CANARY not in said.all + again.all + listing.all


async def test_value_comes_from_a_file(terminal: Terminal) -> None:
    (terminal.folder / "secret").write_text(f"{CANARY}-webhook\n")
    said = await terminal.secrets("set", "webhook-secret", "--file", "secret")
    assert said.out == "webhook-secret: stored\n"
    absent = await terminal.secrets("set", "webhook-secret", "--file", "absent")
    assert absent.code == 1
    assert absent.err == "What --file names cannot be read: No such file or directory.\n"


async def test_value_that_is_typed_is_not_shown(terminal: Terminal) -> None:
    own, other = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SECRETS, "set", "model-key"),
        env={"PATH": os.environ["PATH"], **terminal.environment},
        cwd=terminal.folder,
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
    )
    os.close(other)
    shown = b""
    while b"not shown" not in shown:
        shown += await asyncio.to_thread(os.read, own, 1000)
    os.write(own, f"{CANARY}\n".encode())
    while b"stored" not in shown:
        shown += await asyncio.to_thread(os.read, own, 1000)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    os.close(own)
    assert CANARY.encode() not in shown
    assert "model-key" in rows(await terminal.secrets("list"))


async def test_value_on_the_command_line_is_refused_and_not_repeated(terminal: Terminal) -> None:
    for words in (
        ("set", "model-key", CANARY),
        ("set", CANARY),
        ("set", CANARY, "model-key"),
        ("set", "model-key", f"--{CANARY}"),
        ("delete", CANARY),
        ("delete", "model-key", CANARY, "--yes"),
        (CANARY,),
        (CANARY, "set"),
        (f"--{CANARY}",),
        (f"--help={CANARY}",),
        ("list", CANARY),
        ("list", f"--file={CANARY}"),
        ("rotate", CANARY),
        ("rotate", "key", CANARY),
        ("retire", CANARY),
        ("delete", "model-key", f"--yes={CANARY}"),
    ):
        said = await terminal.secrets(*words)
        assert said.code == 2, words
        assert said.err, words
        assert CANARY not in said.all, words
    for words in (
        ("set", "model-key", "--file", CANARY),
        ("set", "github-app", "--app-id", CANARY),
    ):
        said = await terminal.secrets(*words, stdin="none")
        assert said.code == 1, words
        assert CANARY not in said.all, words
    assert "model-key" not in rows(await terminal.secrets("list"))


async def test_bad_value_is_told_in_a_line(terminal: Terminal) -> None:
    said = await terminal.secrets("set", "webhook-secret", stdin="canary-short")
    assert said.code == 1
    assert "at least 16 characters" in said.err
    assert len(said.err.splitlines()) == 1
    assert "canary" not in said.all
    binary = terminal.folder / "binary"
    binary.write_bytes(b"\xff\xfe canary")
    said = await terminal.secrets("set", "model-key", "--file", str(binary))
    assert said.err == "What --file names is not text.\n"
    binary.write_bytes(b"c" * 70_000)
    said = await terminal.secrets("set", "model-key", "--file", str(binary))
    assert "too large" in said.err


async def test_private_key_of_a_known_app_needs_no_further_words(
    terminal: Terminal, pem: str
) -> None:
    first = await terminal.secrets("set", "github-app", stdin=pem)
    assert first.code == 1
    assert "--app-id" in first.err
    words = ("--app-id", "41", "--slug", "doorbell", "--api-url", "https://github.example/api/v3")
    assert (await terminal.secrets("set", "github-app", *words, stdin=pem)).code == 0
    renewed = await terminal.secrets("set", "github-app", stdin=rsa_pem())
    assert renewed.out == "github-app: stored\n"
    assert rows(await terminal.secrets("list"))["github-app"][0] == "2"
    url, key = terminal.environment.values()
    async with administered(VaultAccess(nats_url=url, nats_nkey_file=Path(key))) as vault:
        facts = await vault.app()
    assert (facts.app_id, facts.slug) == ("41", "doorbell")
    assert facts.api_url == "https://github.example/api/v3"


async def test_deleting_asks_first(terminal: Terminal) -> None:
    await terminal.secrets("set", "model-key", stdin=CANARY)
    for answer in ("", "n\n"):
        said = await terminal.secrets("delete", "model-key", stdin=answer)
        assert said.code == 1
        assert "Nothing was deleted" in said.err
    assert "model-key" in rows(await terminal.secrets("list"))
    said = await terminal.secrets("delete", "model-key", stdin="y\n")
    assert said.out.endswith("model-key: deleted\n")
    said = await terminal.secrets("delete", "model-key", "--yes")
    assert (said.code, said.out) == (0, "model-key: missing\n")


async def test_what_others_left_in_the_bucket_is_told_and_cleared_away(
    terminal: Terminal, nats: NatsServer
) -> None:
    async with connected(nats.url) as client:
        await client.jetstream().publish("$KV.PW_VAULT.junk", b"not a record")
    said = await terminal.secrets("rotate", "key")
    assert said.code == 0, said.err
    assert "'junk'" in said.out
    assert "junk" in rows(await terminal.secrets("list"))
    assert (await terminal.secrets("delete", "junk", "--yes")).out == "junk: deleted\n"
    again = await terminal.secrets("delete", "junk", "--yes")
    assert (again.code, "junk" in again.err) == (2, False)


async def test_key_is_rotated_and_retired(terminal: Terminal) -> None:
    await terminal.secrets("set", "model-key", stdin=CANARY)
    said = await terminal.secrets("rotate", "key")
    assert said.code == 0, said.err
    assert "key version 2" in said.out
    assert "just secrets retire key" in said.out
    assert rows(await terminal.secrets("list"))["model-key"][1] == "2"
    said = await terminal.secrets("retire", "key")
    assert "Key version 1 is destroyed" in said.out


async def test_what_cannot_be_rotated_is_told(terminal: Terminal) -> None:
    said = await terminal.secrets("rotate", "webhook-secret")
    assert said.code == 1
    assert "holds no webhook-secret" in said.err
    said = await terminal.secrets("rotate", "everything")
    assert said.code == 2
    assert "webhook-secret|key" in said.err


async def test_without_a_stack_it_says_how_to_reach_one(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, {})
    for words in (
        ("list",),
        ("set", "model-key"),
        ("rotate", "key"),
        ("delete", "model-key", "--yes"),
    ):
        said = await terminal.secrets(*words, stdin=CANARY)
        assert said.code == 1
        assert "just up" in said.err
        assert "PATCHWRIGHT_NATS_URL" in said.err
        assert len(said.err.splitlines()) == 1


async def test_without_a_vault_or_nats_it_says_what_is_away(
    nats: NatsServer, tmp_path: Path
) -> None:
    said = await Terminal(tmp_path, nats.environment(SETUP)).secrets("list")
    assert said.code == 1
    assert "no answer on pw.rpc.vault.setup.list" in said.err
    wrong = Terminal(tmp_path, nats.environment(SETUP) | {"PATCHWRIGHT_NATS_NKEY_FILE": "absent"})
    assert "no key for NATS at absent" in (await wrong.secrets("list")).err
    anonymous = Terminal(tmp_path, {"PATCHWRIGHT_NATS_URL": nats.address})
    assert "does not take this key" in (await anonymous.secrets("list")).err
    environment = nats.environment(SETUP)
    await nats.stop()
    said = await Terminal(tmp_path, environment).secrets("list")
    assert said.code == 1
    assert "NATS does not answer" in said.err
    assert len(said.err.splitlines()) == 1


async def test_another_services_key_opens_nothing(terminal: Terminal, nats: NatsServer) -> None:
    async def tried(identity: str) -> int:
        other = Terminal(terminal.folder, nats.environment(identity))
        return (await other.secrets("set", "model-key", stdin=CANARY)).code

    # At once, because each of them waits for an answer that never comes.
    others = ("ingest", "runner", "publisher", "triage", "operator")
    assert await asyncio.gather(*map(tried, others)) == [1] * len(others)
    assert "model-key" not in rows(await terminal.secrets("list"))


def test_private_key_alone_becomes_the_record_of_the_app_that_is_named(pem: str) -> None:
    held = AppFacts(
        app_id="41", slug="doorbell", api_url="https://g/api", html_url="https://g/apps"
    )
    same = json.loads(as_app(pem, AppWords(), held))
    assert same == held.model_dump() | {"private_key": pem}
    other = json.loads(as_app(pem, AppWords(app_id="7"), held))
    assert other == {
        "app_id": "7",
        "private_key": pem,
        "slug": "",
        "api_url": "",
        "html_url": "",
    }
    assert as_app('{"app_id": "7"}', AppWords(), held) == '{"app_id": "7"}'
    with pytest.raises(Permanent, match="Whose private key"):
        as_app(pem, AppWords(), None)


async def test_command_is_one_of_patchwrights(tmp_path: Path) -> None:
    program = str(Path(sys.executable).parent / "patchwright")
    said = await Terminal(tmp_path, {}).run(program, "secrets", "list")
    assert said.code == 1
    assert "No stack runs here" in said.err
    said = await Terminal(tmp_path, {}).run(program, "secrets", CANARY)
    assert said.code == 2
    assert "patchwright secrets" in said.err
    assert CANARY not in said.all


async def test_group_alone_shows_its_help(tmp_path: Path) -> None:
    for words in ((), ("--help",)):
        said = await Terminal(tmp_path, {}).secrets(*words)
        assert "Values are never shown" in said.all
        assert "fits no command" not in said.all


COMMANDS = {
    "secrets": "run(look)",
    "unattended": """
try:
    asyncio.run(set_up(Given(), print))
except Permanent:
    asyncio.run(look())
""",
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_memory_that_holds_secrets_is_in_no_crash_dump(tmp_path: Path, command: str) -> None:
    code = f"""
import asyncio, ctypes, resource, sys
from patchwright_common.errors import Permanent
from patchwright_local.secrets import run
from patchwright_local.unattended import Given, set_up
async def look():
    dumpable = ctypes.CDLL(None).prctl(3) if sys.platform == "linux" else 0
    print(dumpable, *resource.getrlimit(resource.RLIMIT_CORE))
{COMMANDS[command]}
"""
    said = await Terminal(tmp_path, {}).run(sys.executable, "-c", code)
    assert said.out == "0 0 0\n", said.all
