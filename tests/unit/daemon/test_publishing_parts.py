"""Templates, configuration, answers and the outbox, one at a time."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from tests.docs.tables import ROOT
from tests.servers.qa_service import QaService

from pantry.daemon.config import load_config
from pantry.daemon.config.publishing import PublishConfig
from pantry.daemon.publishing.documents import Opened
from pantry.daemon.publishing.outbox import Entry, NewEntry, Outbox, running_outbox
from pantry.daemon.publishing.publisher import Publisher
from pantry.daemon.publishing.sending import Call, Request, _check_address, judge
from pantry.daemon.publishing.target import Target, publish_targets
from pantry.daemon.publishing.templates import UnfitError, fill, fill_text, places
from pantry.errors import ConfigError, DatasetNotFoundError, TransientBackendError

KNOWN = {"id": "u", "data_id": {"visit": 3}, "content": {"list": [{"a": 1.5}, 2], "text": "{id}", "no": None}}


def target(**config: Any) -> Target:
    return Target("qa", PublishConfig(**{"url": "http://h/{id}", "dataset_types": ("*",), **config}), "")


def test_places_are_filled_in() -> None:
    template = {
        "v": "{content.list.0.a}",
        "{id}": ["{data_id}", "visit {data_id.visit}", True, None],
        "x": "{content.no.b}",
    }
    assert fill(template, KNOWN) == {"v": 1.5, "u": [{"visit": 3}, "visit 3", True, None], "x": None}
    # What is filled in is no template itself.
    assert fill("{content.text}", KNOWN) == "{id}"
    assert fill("{{{content.text}}} {{id}}", KNOWN) == "{{id}} {id}"
    with pytest.raises(UnfitError, match="stands a dict"):
        fill("a {data_id}", KNOWN)
    with pytest.raises(ValueError, match="brace at character 3"):
        list(places("a }"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_documents_without_places_stay_as_they_are(document: Any) -> None:
    def escape(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{", "{{").replace("}", "}}")
        if isinstance(value, dict):
            return {escape(key): escape(one) for key, one in value.items()}
        return [escape(one) for one in value] if isinstance(value, list) else value

    assert list(places(escape(document))) == []
    assert fill(escape(document), KNOWN) == document


@given(st.text())
def test_whatever_is_filled_in_stays_one_component(text: str) -> None:
    try:
        path = target(url="http://h/a/{content.x}/b?q={content.x}").path({"content": {"x": text}})
    except UnfitError:
        assert text in (".", "..")
        return
    except UnicodeEncodeError:
        return
    assert path.partition("?")[0].count("/") == 3
    assert path.isascii()
    assert not set(path.partition("?")[2]) & set("&#? \r\n")


MISTAKES = [
    ({"url": "ftp://h/x"}, "must begin with http"),
    ({"url": "http://{id}/x"}, "the host is never filled in"),
    ({"url": "https://u:p@h/"}, "must have no credentials"),
    ({"url": "http://h/a b"}, "printable ASCII"),
    ({"url": "http://h:99999/"}, "is no URL"),
    ({"url": "http://qa.example.org/", "credential_file": "/t"}, "not sent without encryption"),
    ({"url": "http://h/{content}", "form": "file"}, "{content} is not known there"),
    ({"url": "http://h/{visit}"}, "{visit} is not known there"),
    ({"url": "https://h/", "credential_file": "/t", "credential_variable": "T"}, "give one of them"),
    ({"credential_form": "Bearer"}, "has no {credential}"),
    ({"headers": {"Content-Length": "3"}}, "no header that can be set"),
    ({"headers": {"X-A": "a\nb"}}, "printable ASCII"),
    ({"dataset_types": ()}, "is empty"),
    ({"rows": "{content.list}"}, "give both or none"),
    ({"rows": "all of {content}", "row": "{row}"}, "must be one place"),
    ({"rows": "{content}", "row": "{row}", "body": {"a": 1}}, "has no {rows}"),
    ({"body": {"a": "{rows}"}}, "{rows} is not known there"),
    ({"body": "{content"}, "the brace at character 1"),
    ({"form": "file", "body": {}}, "sent as it is"),
    ({"accepted": (302,)}, "redirections"),
    ({"timeout_s": 0}, "must be positive"),
    ({"most_bytes": 1 << 40}, "at most 1 GiB"),
]


@pytest.mark.parametrize(("config", "text"), MISTAKES, ids=[text for _, text in MISTAKES])
def test_mistakes_are_found_when_the_file_is_read(config: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        target(**config)
    assert str(caught.value).startswith("configuration: publish.qa: ")
    assert text in str(caught.value)


def test_the_example_can_be_used(tmp_path: Path) -> None:
    example = (ROOT / "systemd" / "pantryd.yaml").read_text()
    text = example[example.index("#publish:") :]
    file = tmp_path / "pantryd.yaml"
    file.write_text(re.sub(r"^#(?! )", "", text, flags=re.M).replace("\n#  ", "\n  "))
    made = publish_targets(load_config(str(file)))
    assert list(made) == ["qa", "topics", "archive"]


def test_the_daemon_names_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "pantryd.yaml"
    file.write_text("publish:\n  qa:\n    url: http://h/{id}\n    dataset_types: [a]\n    metod: PUT\n")
    with pytest.raises(ConfigError, match=r"pantryd\.yaml:5: unknown key 'publish\.qa\.metod'") as caught:
        load_config(str(file))
    assert "did you mean 'method'?" in caught.value.hint
    file.write_text("publish:\n  qa:\n    url: http://h/{idd}\n    dataset_types: [a]\n")
    with pytest.raises(ConfigError, match=r"pantryd\.yaml: publish\.qa: url: {idd} is not known"):
        publish_targets(load_config(str(file)))


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b'{"error_code": 200, "ok": true}', "accepted"),
        (200, b'{"error_code": 400, "ok": true}', "refused"),
        (200, b'{"error_code": 200, "ok": 1}', "refused"),
        (200, b"[]", "refused"),
        (200, b"<html>", "unknown"),
        (409, b"", "unknown"),
        (400, b"", "refused"),
        (503, b"", "retry"),
        (408, b"", "retry"),
        (301, b"", "refused"),
    ],
)
def test_what_answers_mean(status: int, body: bytes, verdict: str) -> None:
    asked = target(answer={"error_code": 200, "ok": True}, accepted=(409,))
    assert judge(asked, status, None, body).verdict == verdict


@given(st.binary(max_size=300), st.integers(100, 999), st.none() | st.text(max_size=20))
def test_no_answer_does_harm(body: bytes, status: int, retry_after: str | None) -> None:
    outcome = judge(target(answer={"a.*.0.b": None}), status, retry_after, body)
    assert outcome.problem.isprintable()
    assert 0 <= outcome.retry_after_s <= 86_400


class _Connected:
    def __init__(self, address: str) -> None:
        self.address = address

    def getpeername(self) -> tuple[str, int]:
        return self.address, 80


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("127.0.0.1", True), ("10.1.2.3", True), ("192.168.0.1", True), ("::1", True), ("fd00::1", True),
        ("2001:db8::1", True), ("93.184.215.14", True), ("169.254.169.254", False), ("fe80::1%eth0", False),
        ("::ffff:169.254.169.254", False), ("224.0.0.1", False), ("255.255.255.255", False),
        ("0.0.0.0", False),  # noqa: S104 - nothing is bound
    ],
)  # fmt: skip
def test_where_no_service_can_be(address: str, may: bool) -> None:
    if may:
        _check_address(_Connected(address), target())
        return
    with pytest.raises(OSError, match="where no service can be"):
        _check_address(_Connected(address), target())


def test_encrypted_services_are_known_by_their_certificate(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with QaService(certificate) as service:
        for ca_file, verdict, text in ((str(certificate), "accepted", ""), ("", "retry", "is not trusted")):
            config = {"url": f"https://localhost:{service.port}/x", "ca_file": ca_file, "credential_variable": "PATH"}
            outcome = Call(target(**config), Request("/x", "k", b"{}", 2)).send()
            assert outcome.verdict == verdict, outcome
            assert text in outcome.problem
        (got,) = service.requests
        assert got.headers["Authorization"] == f"Bearer {os.environ['PATH']}"


def self_signed(directory: Path) -> Path:
    """A certificate and its key for localhost."""
    made = directory / "localhost.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        ["openssl", *words.split(), "-keyout", str(made), "-out", str(directory / "crt.pem")],
        check=True,
        capture_output=True,
    )
    made.write_bytes(made.read_bytes() + (directory / "crt.pem").read_bytes())
    return made


# -- the outbox ------------------------------------------------------------------------------------


def new(dataset: UUID, name: str = "qa") -> NewEntry:
    return NewEntry(name, dataset.bytes, "d", "metric", 1000)


def test_the_outbox_keeps_each_dataset_once(tmp_path: Path) -> None:
    first, second = uuid4(), uuid4()

    async def main() -> None:
        async with running_outbox(str(tmp_path / "o.sqlite3")) as outbox:
            ids = await outbox.add([new(first), new(second), new(first)], "waiting")
            assert ids[0] == ids[2] != ids[1]
            await outbox.change([ids[0]], "accepted")
            await outbox.change([ids[1]], "refused", problem="no")
            assert await outbox.add([new(first), new(second)], "waiting") == ids[:2]
            assert {one.id: one.state for one in (await outbox.by_id(ids)).values()} == {
                ids[0]: "accepted",
                ids[1]: "waiting",
            }
            # A wish that fails takes nothing else with it.
            async with trio.open_nursery() as nursery:
                with pytest.raises(sqlite3.Error):
                    await outbox.change([ids[1]], "waiting", nonsense=1)
                nursery.start_soon(outbox.change, [ids[1]], "refused")
        async with running_outbox(str(tmp_path / "o.sqlite3")) as again:
            assert await again.counts(None, "") == [("qa", "accepted", 1), ("qa", "refused", 1)]
            assert await again.counts(7, "") == []

    trio.run(main)


def test_a_start_asks_the_registry_what_became_of_puts(tmp_path: Path) -> None:
    there, gone, unknown, later, sent = (uuid4() for _ in range(5))

    async def exists(repository: str, id_: UUID) -> bool:
        if id_ == unknown:
            raise TransientBackendError("the registry does not answer")
        return id_ == there

    async def never(repository: str, id_: UUID) -> Opened:
        raise DatasetNotFoundError("not asked for")

    async def states(outbox: Outbox) -> dict[UUID, str]:
        rows = await outbox.listed(None, "", (), 10)
        return {UUID(bytes=one.dataset): one.state for one in rows}

    async def main() -> None:
        async with running_outbox(str(tmp_path / "o.sqlite3")) as outbox:
            await outbox.add([new(one) for one in (there, gone, unknown, later)], "begun")
            await outbox.add([new(sent)], "sending")
            publisher = Publisher({}, outbox, never, exists)
            begun = await outbox.begun()
            left: list[Entry] = await publisher.recover(begun, undecided={later.bytes})
            assert {UUID(bytes=one.dataset) for one in left} == {unknown, later}
            expected = {there: "waiting", unknown: "begun", later: "begun", sent: "orphan"}
            assert await states(outbox) == expected

    trio.run(main)


def _rows(path: Path) -> list[tuple[str]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT state FROM publication").fetchall()


def test_a_put_that_fails_leaves_nothing_to_publish(tmp_path: Path) -> None:
    good, bad = uuid4(), uuid4()

    async def main() -> None:
        async with running_outbox(str(tmp_path / "o.sqlite3")) as outbox:
            publisher = Publisher({}, outbox, None, None)  # type: ignore[arg-type]
            seen = []

            async def fails() -> None:
                async with publisher.with_commit([new(bad)]):
                    # Durable before anything else happens.
                    seen.append(_rows(tmp_path / "o.sqlite3"))
                    raise KeyError

            with pytest.raises(KeyError):
                await fails()
            assert seen == [[("begun",)]]
            async with publisher.with_commit([new(good)]):
                pass
            (one,) = await outbox.listed(None, "", (), 10)
            assert (UUID(bytes=one.dataset), one.state) == (good, "waiting")

    trio.run(main)


def test_filling_text_quotes_each_value() -> None:
    assert fill_text("<{id}>", {"id": True}, str.upper) == "<TRUE>"
