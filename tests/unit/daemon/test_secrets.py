"""Secrets that the configuration keeps elsewhere: read, refused where others could read or change them, never shown."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from pantry.backends.credentials import BearerToken, Secret, credential_from, without_secrets
from pantry.daemon.config import DaemonConfig
from pantry.daemon.config.active import active_values
from pantry.daemon.config.secrets import MAX_SECRET_BYTES, SecretSource, read_secrets, stand_in
from pantry.daemon.credentials import renewed as renewed_module
from pantry.daemon.credentials.renewed import HOLDS_S, NodeOptions, Renewed
from pantry.errors import BackendAccessError, ConfigError
from pantry.model.loading import load_yaml

SECRET = "s3cr3t-of-the-node"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    return file


def test_from_a_file_a_variable_and_systemd(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(kept.parent))
    for source in (SecretSource(file=str(kept)), SecretSource(env="THE_SECRET"), SecretSource(systemd="secret")):
        assert source.read("x").reveal() == SECRET
        assert SECRET not in repr(source)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o644, 0o666])
def test_a_file_that_others_may_read_or_change_is_refused(kept: Path, mode: int) -> None:
    kept.chmod(mode)
    with pytest.raises(BackendAccessError, match=f"mode {mode:04o}") as caught:
        SecretSource(file=str(kept)).read("the storage of s3://b: token")
    assert SECRET not in str(caught.value)
    assert caught.value.message.startswith("the storage of s3://b: token: ")


def test_whose_file_it_must_be(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.chmod(0o640)
    owner = os.stat(kept).st_uid
    source = SecretSource(file=str(kept))
    if owner == 0:
        assert source.read("x").reveal() == SECRET, "root's file may be for its group"
        os.chown(kept, 4242, 4242)
        owner = 4242
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    with pytest.raises(BackendAccessError, match="mode 0640"):
        source.read("x")
    kept.chmod(0o600)
    assert source.read("x").reveal() == SECRET
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(BackendAccessError, match=f"belongs to uid {owner}"):
        source.read("x")


def test_what_is_no_secret(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.delenv("THE_SECRET", raising=False)
    pipe = kept.with_name("pipe")
    os.mkfifo(pipe, 0o600)
    for source, what in (
        (SecretSource(file=str(kept.with_name("nothing"))), "No such file"),
        (SecretSource(file=str(pipe)), "no regular file"),
        (SecretSource(env="THE_SECRET"), "is not set"),
        (SecretSource(systemd="secret"), "no credential"),
    ):
        with pytest.raises(BackendAccessError, match=what):
            source.read("x")
    for content, what in (
        (b"\n", "empty"),
        (b"\xff\xfe" + SECRET.encode(), "UTF-8"),
        (SECRET.encode() * MAX_SECRET_BYTES, "more than"),
    ):
        kept.write_bytes(content)
        with pytest.raises(BackendAccessError, match=what) as caught:
            SecretSource(file=str(kept)).read("x")
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{}", "one of 'file', 'env' and 'systemd'"),
        ("{file: /a, env: B}", "one of 'file', 'env' and 'systemd'"),
        ("{file: a}", "absolute"),
        ("{env: 'A=B'}", "variable"),
        ("{systemd: ../shadow}", "credential"),
        ("{fil: /a}", "unknown key"),
    ],
)
def test_the_configuration_says_what_is_wrong(written: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_yaml(f"storage:\n- match: s3://b/\n  options:\n    token: {written}\n", DaemonConfig, source="f.yaml")
    assert caught.value.message.startswith("f.yaml:")


def test_options_with_their_secrets_and_with_stand_ins(kept: Path) -> None:
    options = {"token": SecretSource(file=str(kept)), "max_attempts": 3}
    assert read_secrets(options, "x") == {"token": Secret(SECRET), "max_attempts": 3}
    assert stand_in(options)["max_attempts"] == 3
    assert isinstance(stand_in(options)["token"], Secret)


def test_the_active_configuration_tells_where_and_not_what(kept: Path) -> None:
    config = load_yaml(
        f"storage:\n- match: s3://b/\n  options:\n    token: {{file: {kept}}}\n    password: {SECRET}\n",
        DaemonConfig,
        source="f.yaml",
    )
    found = {one.name: one.value for one in active_values(config)}
    assert found["storage[0].options.token.file"] == str(kept)
    assert found["storage[0].options.password"] == "(hidden)"


def test_a_token_that_no_header_can_carry_is_refused_without_showing_it() -> None:
    for text in (f"{SECRET}\n{SECRET}", f"{SECRET} x", f"{SECRET}é"):
        with pytest.raises(ConfigError, match="printable ASCII") as caught:
            credential_from({"token": text}, service="s")
        assert SECRET not in str(caught.value)
    assert credential_from({"token": SECRET}, service="s") == BearerToken(Secret(SECRET))


class Door:
    """A backend as far as `Renewed` goes."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self.options = options
        self.closed = False

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = True


def test_a_backend_is_made_anew_when_its_secret_has_changed(kept: Path) -> None:
    renew, lose = kept.write_text, kept.unlink

    async def main() -> None:
        renewed = Renewed(NodeOptions({"token": SecretSource(file=str(kept))}, "x"), Door)
        async with renewed.use() as (_, first):
            assert first.options == {"token": Secret(SECRET)}
        async with renewed.use() as (_, again):
            assert again is first
            renew("renewed")
            async with renewed.use() as (_, believed):
                assert believed is first, "for a moment"
            await trio.sleep(HOLDS_S)
            async with renewed.use() as (options, second):
                assert second.options == options == {"token": Secret("renewed")}
            assert not first.closed, "somebody still uses it"
        assert first.closed
        assert not second.closed
        lose()
        await trio.sleep(HOLDS_S)
        with pytest.raises(BackendAccessError):
            async with renewed.use():
                pass
        await renewed.aclose()
        assert second.closed

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_secret_that_cannot_be_read_at_present_holds_up_nobody_else(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a file system that does not answer: one thread hangs, whoever waits may go, the rest goes on."""
    go_on, reading, reads = threading.Event(), threading.Event(), 0

    def read(options: Mapping[str, object], what: str) -> dict[str, object]:
        nonlocal reads
        if what == "hung":
            reads += 1
            reading.set()
            go_on.wait(30)
        return {"token": Secret(what)}

    monkeypatch.setattr(renewed_module, "read_secrets", read)
    source = {"token": SecretSource(file=str(kept))}

    async def main() -> None:
        hung, other, plain = NodeOptions(source, "hung"), NodeOptions(source, "other"), NodeOptions({"a": 1}, "plain")
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(hung.now)
                await trio.to_thread.run_sync(reading.wait)
                assert await other.now() == {"token": Secret("other")}
                assert await plain.now() == {"a": 1}
                nursery.cancel_scope.cancel()
            with trio.move_on_after(0.05) as scope:
                await hung.now()
            assert scope.cancelled_caught
            assert reads == 1
        finally:
            go_on.set()
        assert await hung.now() == {"token": Secret("hung")}

    trio.run(main)


def test_options_without_sources_need_no_thread() -> None:
    async def main() -> None:
        def none(*_: object, **__: object) -> None:
            raise AssertionError("a thread")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trio.to_thread, "run_sync", none)
            assert await NodeOptions({"a": 1}, "x").now() == {"a": 1}

    trio.run(main)


def test_secrets_are_not_encoded() -> None:
    with pytest.raises(TypeError):
        msgspec.msgpack.encode(Secret(SECRET))


def test_what_a_service_repeats_of_a_secret_is_not_passed_on() -> None:
    token = credential_from({"token": SECRET}, service="s")
    basic = credential_from({"username": "me", "password": SECRET}, service="s")
    encoded = base64.b64encode(f"me:{SECRET}".encode())
    said = b"<p>no " + SECRET.encode() + b" nor Basic " + encoded + b"</p>"
    assert SECRET.encode() not in without_secrets(said, token)
    assert without_secrets(said, basic) == b"<p>no *** nor Basic ***</p>"
    assert without_secrets(said, None) == said
