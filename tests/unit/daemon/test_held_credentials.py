"""Users' own credentials: for whom, for what, for how long, how many; and never shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from pantry.daemon.config import DaemonConfig
from pantry.daemon.credentials import held as module
from pantry.daemon.credentials.held import MAX_CREDENTIAL_BYTES, HeldCredential, HeldCredentials, covers
from pantry.daemon.credentials.own import OwnOptions, is_for_users
from pantry.errors import BackendAccessError, ConfigError, InvalidRequestError, LimitExceededError, NotFoundError
from pantry.model.loading import load_yaml
from pantry.wire.operations import AddCredential

SECRET = "s3cr3t"
URI = "https://archive.example.org/data"
TOKEN = {"token": SECRET}


def timed(check: Callable[[HeldCredentials], Awaitable[None]]) -> None:
    async def main() -> None:
        held = HeldCredentials(per_user=2, longest_s=100, wanted=lambda uri: "nowhere" not in uri)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(held.expire)
            await check(held)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_each_for_himself_and_for_a_time() -> None:
    @timed
    async def check(held: HeldCredentials) -> None:
        held.add(1, URI, TOKEN, 10)
        held.add(2, URI, {"token": "another"}, 20)
        assert held.for_origin(1, URI + "/x").options["token"].reveal() == SECRET
        assert held.for_origin(2, URI + "/x").options["token"].reveal() == "another"
        for uid in (0, 3):
            with pytest.raises(BackendAccessError, match="none of you"):
                held.for_origin(uid, URI)
        await trio.sleep(10)
        assert held.find(1, URI) is None
        assert held.all(1) == []
        assert held.find(2, URI) is not None
        await trio.sleep(10)
        assert held.find(2, URI) is None
        await trio.testing.wait_all_tasks_blocked()
        assert not held._held, "nothing is left in memory"


@pytest.mark.parametrize(
    ("beginning", "uri", "is_covered"),
    [
        ("https://a.org", "https://a.org", True),
        ("https://a.org", "https://a.org/x", True),
        ("https://a.org/", "https://a.org/x", True),
        ("https://a.org", "https://a.org.evil.com/x", False),
        ("https://a.org", "https://a.org:8443/x", False),
        ("https://a.org", "https://a.organic/x", False),
        ("https://a.org/x", "https://a.org/xy", False),
        ("s3://b", "s3://b2/x", False),
    ],
)
def test_for_whole_components_only(beginning: str, uri: str, is_covered: bool) -> None:
    assert covers(beginning, uri) == is_covered


@pytest.mark.parametrize("handed_over", ["s3://b/data", "s3://b/data/", "s3://b/data//", "s3://b", "s3://b/"])
@pytest.mark.parametrize("asked", ["s3://b/data", "s3://b/data/", "s3://b/data/x"])
def test_slashes_at_the_end_mean_nothing(handed_over: str, asked: str) -> None:
    @timed
    async def check(held: HeldCredentials) -> None:
        await trio.lowlevel.checkpoint()
        held.add(1, handed_over, {"access_key_id": "a", "secret_access_key": SECRET}, 10)
        assert held.for_origin(1, asked).options["secret_access_key"].reveal() == SECRET
        (one,) = held.all(1)
        held.remove(1, one.uri + "/")
        assert held.all(1) == []


def test_the_one_for_the_fewest_others_is_taken() -> None:
    @timed
    async def check(held: HeldCredentials) -> None:
        held.add(1, URI, TOKEN, 50)
        held.add(1, URI + "/deep", {"token": "deep"}, 10)
        assert held.for_origin(1, URI + "/deep/er").options["token"].reveal() == "deep"
        assert held.for_origin(1, URI + "/deepest").options["token"].reveal() == SECRET
        await trio.sleep(10)
        assert held.for_origin(1, URI + "/deep/er").options["token"].reveal() == SECRET


def test_a_new_one_takes_the_place_of_that_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    @timed
    async def check(held: HeldCredentials) -> None:
        first = held.add(1, URI, TOKEN, 10)
        held.add(1, URI + "/b", TOKEN, 10)
        second = held.add(1, URI, {"token": "new"}, 10)
        assert second.serial != first.serial
        assert held.for_origin(1, URI).options["token"].reveal() == "new"
        with pytest.raises(LimitExceededError, match="may have 2"):
            held.add(1, URI + "/c", TOKEN, 10)
        held.remove(1, URI)
        with pytest.raises(NotFoundError):
            held.remove(1, URI)
        with pytest.raises(NotFoundError):
            held.remove(2, URI + "/b")
        held.add(1, URI + "/c", TOKEN, 10)
        monkeypatch.setattr(module, "MOST_BYTES", 3 * len(SECRET) - 1)
        with pytest.raises(LimitExceededError, match="no more credentials"):
            held.add(9, URI, TOKEN, 10)


def test_the_same_one_again_keeps_what_was_proved_by_it() -> None:
    @timed
    async def check(held: HeldCredentials) -> None:
        copy = "https://copy.example.org/data"
        held.add(1, URI, TOKEN, 10)
        first = held.rights(1, (URI, copy))
        assert first[1] == 0
        await trio.sleep(9)
        held.add(1, URI, TOKEN, 10)
        await trio.sleep(9)
        assert held.rights(1, (URI, copy)) == first, "kept for longer"
        held.add(1, copy, TOKEN, 10)
        with_copy = held.rights(1, (URI, copy))
        assert with_copy[0] == first[0]
        assert len({0, *with_copy}) == 3
        held.add(1, URI, {"token": "another"}, 10)
        held.add(1, URI, TOKEN, 10)
        assert held.rights(1, (URI,)) != first[:1], "another one was between them"
        before = held.rights(1, (URI,))
        await trio.sleep(10)
        held.add(1, URI, TOKEN, 10)
        assert held.rights(1, (URI,)) != before, "it had expired"


@pytest.mark.parametrize(
    ("uri", "options", "lifetime_s"),
    [
        (URI, {}, 1.0),
        (URI, {"token": SECRET, "password": SECRET}, 1.0),
        (URI, {"username": SECRET}, 1.0),
        (URI, {"secret_access_key": SECRET, "access_key_id": SECRET}, 1.0),
        (URI, {"endpoint_url": SECRET}, 1.0),
        (URI, {"token": ""}, 1.0),
        (URI, {"token": SECRET + "\n"}, 1.0),
        (URI, {"token": SECRET + " x"}, 1.0),
        (URI, {"certificate": SECRET + "\0"}, 1.0),
        (URI, {"token": SECRET * MAX_CREDENTIAL_BYTES}, 1.0),
        (URI, TOKEN, 0.0),
        (URI, TOKEN, float("nan")),
        (URI, TOKEN, 101.0),
        ("s3://b", TOKEN, 1.0),
        ("https://nowhere.org/", TOKEN, 1.0),
        (f"https://me:{SECRET}@a.org/", TOKEN, 1.0),
        ("https:///", TOKEN, 1.0),
        ("data", TOKEN, 1.0),
    ],
)
def test_what_is_refused_is_not_shown(uri: str, options: dict[str, str], lifetime_s: float) -> None:
    @timed
    async def check(held: HeldCredentials) -> None:
        await trio.lowlevel.checkpoint()
        with pytest.raises(InvalidRequestError) as caught:
            held.add(1, uri, options, lifetime_s)
        assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.fields}"
        assert held.all(1) == []


def test_it_is_in_no_listing_of_fields() -> None:
    assert SECRET not in repr(AddCredential(uri=URI, options=TOKEN, lifetime_s=1.0))

    @timed
    async def check(held: HeldCredentials) -> None:
        await trio.lowlevel.checkpoint()
        assert SECRET not in repr(held.add(1, URI, TOKEN, 10))


def test_connections_are_forgotten_when_it_is_over() -> None:
    @timed
    async def check(held: HeldCredentials) -> None:
        forgotten: list[str] = []

        def forget(name: str) -> Callable[[], Awaitable[None]]:
            async def noted() -> None:
                await trio.lowlevel.checkpoint()
                forgotten.append(name)

            return noted

        held.add(1, URI, TOKEN, 10)
        held.add(2, URI, TOKEN, 90)
        held.watch(1, URI + "/x", forget("one"))
        held.watch(2, URI + "/x", forget("two"))
        await trio.sleep(9)
        assert not forgotten
        await trio.sleep(2)
        await trio.testing.wait_all_tasks_blocked()
        assert forgotten == ["one"]
        held.remove(2, URI)
        await trio.testing.wait_all_tasks_blocked()
        assert "two" in forgotten


def test_only_whose_credentials_have_changed_is_looked_after() -> None:
    @timed
    async def check(held: HeldCredentials) -> None:
        asked: list[int] = []

        async def forget() -> None:
            await trio.lowlevel.checkpoint()

        find = held.find

        def noted(uid: int, uri: str) -> HeldCredential | None:
            asked.append(uid)
            return find(uid, uri)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(held, "find", noted)
            for uid in range(100):
                held.watch(uid, URI, forget)
            held.add(7, URI, TOKEN, 10)
            await trio.testing.wait_all_tasks_blocked()
            assert asked == [7]
            await trio.sleep(11)
            assert asked == [7, 7]


def test_nothing_of_the_nodes_goes_out_with_a_users_request() -> None:
    @timed
    async def check(held: HeldCredentials) -> None:
        node = {
            "endpoint_url": "https://e",
            "secret_access_key": "n",
            "access_key_id": "n",
            "profile": "n",
            "token": "n",
        }
        own = OwnOptions(node, URI, 1, held)
        assert own.stand_in() == {"endpoint_url": "https://e"}
        with pytest.raises(BackendAccessError):
            await own.now()
        held.add(1, URI, TOKEN, 10)
        assert set(await own.now()) == {"endpoint_url", "token"}


CONFIG = """
storage:
- match: https://archive.example.org/
  rights: user
- match: https://archive.example.org/public/
  rights: node
  options: {token: x}
services:
  gaia: {root: tap+https://gaia.example.org/tap, rights: user}
"""


def test_what_users_credentials_are_for() -> None:
    config = load_yaml(CONFIG, DaemonConfig, source="f")
    for uri in (URI, "https://archive.example.org", "https://archive.example.org/", "tap+https://gaia.example.org/tap"):
        assert is_for_users(config, uri), uri
    for uri in ("https://archive.example.com/", "tap+https://gaia.example.org/tap2", "s3://b"):
        assert not is_for_users(config, uri), uri


@pytest.mark.parametrize(
    "text",
    [
        "storage:\n- {match: /data, rights: user}\n",
        "storage:\n- {match: 'file:///data', rights: user}\n",
        "storage:\n- {match: 's3://b', rights: user, options: {access_key_id: a, secret_access_key: b}}\n",
        "storage:\n- {match: 's3://b', rights: user, options: {anonymous: true}}\n",
        "storage:\n- {match: 's3://b', rights: everybody}\n",
        "services:\n  x: {root: 'tap+https://a/b', rights: user, options: {token: a}}\n",
    ],
)
def test_rights_that_make_no_sense(text: str, tmp_path: object) -> None:
    from pathlib import Path

    from pantry.daemon.config import load_config

    file = Path(str(tmp_path)) / "f.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="rights|never be used"):
        load_config(str(file))
