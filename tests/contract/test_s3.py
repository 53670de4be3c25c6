"""The S3 backend held to the contract by real SeaweedFS; moto for what SeaweedFS cannot be made to do."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.contract.conftest import S3Outside, close, new_root, s3_backend, s3_options
from tests.servers.moto import MotoServer
from tests.servers.seaweedfs import SeaweedServer

from pantry.backends.admission import Admission
from pantry.backends.contract import ByteRange
from pantry.backends.s3 import S3Backend, S3BackendFactory
from pantry.backends.s3._writing import claim_key
from pantry.backends.s3.options import parse_options
from pantry.backends.suite import ObjectBackendContract
from pantry.backends.suite_calls import descriptor, listed, pattern, read, run, write
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ConfigError,
    ObjectExistsError,
    ObjectNotFoundError,
    TransientBackendError,
)


@pytest.fixture
def outside(seaweed: SeaweedServer, seaweed_client: Any) -> S3Outside:
    return S3Outside(seaweed_client, *new_root(seaweed))


@pytest.fixture
def backend(seaweed: SeaweedServer, outside: S3Outside) -> Iterator[S3Backend]:
    made = s3_backend(seaweed, outside.bucket, outside.prefix)
    yield made
    close(made)


class TestSeaweedFS(ObjectBackendContract):
    @pytest.fixture
    def outside(self, seaweed: SeaweedServer, seaweed_client: Any) -> S3Outside:
        return S3Outside(seaweed_client, *new_root(seaweed))

    @pytest.fixture
    def backend(self, seaweed: SeaweedServer, outside: S3Outside) -> Iterator[S3Backend]:
        made = s3_backend(seaweed, outside.bucket, outside.prefix)
        yield made
        close(made)


class TestMoto(ObjectBackendContract):
    @pytest.fixture
    def outside(self, moto: MotoServer, moto_client: Any) -> S3Outside:
        return S3Outside(moto_client, *new_root(moto))

    @pytest.fixture
    def backend(self, moto: MotoServer, outside: S3Outside) -> Iterator[S3Backend]:
        made = s3_backend(moto, outside.bucket, outside.prefix)
        yield made
        close(made)

    test_listing_has_more_than_one_page = None  # type: ignore[assignment]  # slow in moto

    def test_of_six_writers_one_wins(self) -> None:  # type: ignore[override]
        pytest.skip("moto looks and then writes: its own conditional requests are not atomic")


class TestWithoutConditionalWrites(ObjectBackendContract):
    """``conditional_writes = "never"``: all but the race still holds."""

    @pytest.fixture
    def outside(self, seaweed: SeaweedServer, seaweed_client: Any) -> S3Outside:
        return S3Outside(seaweed_client, *new_root(seaweed))

    @pytest.fixture
    def backend(self, seaweed: SeaweedServer, outside: S3Outside) -> Iterator[S3Backend]:
        made = s3_backend(seaweed, outside.bucket, outside.prefix, conditional_writes="never")
        yield made
        close(made)

    test_listing_has_more_than_one_page = None  # type: ignore[assignment]  # slow, and no matter of conditions

    def test_it_says_so(self, backend: S3Backend) -> None:
        assert not backend.capabilities.conditional_write


def test_the_service_proves_that_it_honours_conditions(backend: S3Backend) -> None:
    run(lambda: write(backend, "k", b"1"))
    assert backend._writer.conditional is True


def test_folder_markers_are_not_listed(backend: S3Backend, outside: S3Outside) -> None:
    outside.put("folder/", b"")
    outside.put("folder/k", b"1")
    assert run(lambda: listed(backend, "")).keys() == {"folder/k"}


def test_undo_aborts_what_a_killed_process_left(backend: S3Backend, outside: S3Outside) -> None:
    """And only for exactly this key."""
    for key in ("k", "k/longer", "kk"):
        answer = outside.client.create_multipart_upload(Bucket=outside.bucket, Key=outside.prefix + key)
        outside.client.upload_part(
            Bucket=outside.bucket, Key=outside.prefix + key, UploadId=answer["UploadId"], PartNumber=1, Body=b"x"
        )
    assert run(lambda: backend.undo_write("k", token="t-1"))
    assert outside.residue() == {"k/longer", "kk"}


# -- refusals -------------------------------------------------------------------------------------


def _secrets(options: dict[str, object]) -> set[str]:
    return {str(options[name]) for name in ("access_key_id", "secret_access_key", "session_token") if name in options}


@pytest.mark.parametrize(
    "changed",
    [
        {"secret_access_key": "WRONGSECRETwrongsecret"},
        {"access_key_id": "AKWRONGWRONG"},
        {"access_key_id": "AKWRONGWRONG", "session_token": "WRONGTOKENwrongtoken"},
    ],
)
def test_wrong_credentials_are_an_access_error_without_them(
    seaweed: SeaweedServer, changed: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    options = s3_options(seaweed, **changed)
    bucket, prefix = new_root(seaweed)
    backend = S3BackendFactory(f"s3://{bucket}/{prefix}", options, Admission(user_limit=4, node_limit=4))
    said = [repr(backend), str(backend), backend.location, repr(parse_options(options)), str(parse_options(options))]
    for call in (
        lambda: backend.stat("k"),
        lambda: read(backend, "k", 0, 1),
        lambda: write(backend, "k", b"1"),
        lambda: listed(backend, ""),
        lambda: backend.delete("k"),
        lambda: backend.undo_write("k", token="t-1"),
    ):
        with pytest.raises(BackendAccessError) as caught:
            run(call)
        assert "secret_access_key" in caught.value.hint
        said += [repr(caught.value), str(caught.value), repr(caught.value.fields)]
        said += traceback.format_exception(caught.value)
    run(backend.aclose)
    text = "\n".join([*said, caplog.text])
    assert not [secret for secret in _secrets(options) if secret in text]


def test_anonymous_requests_are_unsigned(seaweed: SeaweedServer) -> None:
    backend = s3_backend(seaweed, *new_root(seaweed), access_key_id=None, secret_access_key=None, anonymous=True)
    with pytest.raises(BackendAccessError):
        run(lambda: read(backend, "k", 0, 1))
    close(backend)


def test_credentials_from_a_file(seaweed: SeaweedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that was named wins over the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKOFSOMEBODYELSE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    file = tmp_path / "credentials"
    for profile in ("default", "other"):
        file.write_text(
            f"[{profile}]\naws_access_key_id = {seaweed.access_key}\naws_secret_access_key = {seaweed.secret_key}\n"
        )
        changed = {} if profile == "default" else {"profile": profile}
        backend = s3_backend(
            seaweed,
            *new_root(seaweed),
            access_key_id=None,
            secret_access_key=None,
            credentials_file=str(file),
            **changed,
        )
        run(lambda backend=backend: write(backend, "k", b"1"))
        close(backend)
    missing = s3_backend(
        seaweed, "any", "", access_key_id=None, secret_access_key=None, credentials_file=str(file), profile="nobody"
    )
    with pytest.raises(BackendAccessError, match="profile"):
        run(lambda: missing.stat("k"))


def test_a_missing_bucket_is_said_to_be_missing(seaweed: SeaweedServer) -> None:
    backend = s3_backend(seaweed, "no-such-bucket", "")
    for call in (lambda: read(backend, "k", 0, 1), lambda: listed(backend, "")):
        with pytest.raises(BackendError, match="bucket") as caught:
            run(call)
        assert not isinstance(caught.value, ObjectNotFoundError)
        assert caught.value.hint
    close(backend)


def test_nobody_listening_is_transient() -> None:
    options: dict[str, object] = {
        "endpoint_url": "http://127.0.0.1:9",
        "access_key_id": "AK",
        "secret_access_key": "SK",
        "max_attempts": 1,
    }
    backend = S3BackendFactory("s3://bucket", options, Admission(user_limit=4, node_limit=4))
    with pytest.raises(TransientBackendError):
        run(lambda: backend.stat("k"))
    run(backend.aclose)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"endpoint": "http://x"}, "known are endpoint_url"),
        ({"max_attempts": "many"}, "max_attempts"),
        ({"secret_access_key": 12345678}, "secret_access_key"),
        ({"access_key_id": "a"}, "go together"),
        ({"session_token": "verysecret"}, "session_token needs"),
        ({"anonymous": True, "profile": "p"}, "not several"),
        ({"endpoint_url": "http://user:verysecret@host"}, "without credentials"),
        ({"endpoint_url": "host:9000"}, "http"),
        ({"multipart_size_bytes": 1000}, "at least"),
        ({"addressing": "sideways"}, "addressing"),
        ({"read_timeout_s": 0}, "positive"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_options(options)
    assert not [secret for secret in ("12345678", "verysecret") if secret in str(caught.value)]


@pytest.mark.parametrize("root", ["s3:bucket", "s3://", "s3://key:secret@bucket", "s3://bucket/a/../b", "http://x/y"])
def test_bad_roots_are_refused(root: str, admission: Admission) -> None:
    with pytest.raises(ConfigError) as caught:
        S3BackendFactory(root, {}, admission)
    assert "secret" not in str(caught.value)


# -- services of other kinds, by a client that answers as they do -----------------------------------


@pytest.fixture
def meddle(backend: S3Backend) -> Any:
    """Register botocore hooks on the backend's client: they change requests on the way to the real server."""
    client = backend._store._client
    return client.meta.events


def _strip(header: str) -> Any:
    def hook(request: Any, **_: Any) -> None:
        del request.headers[header]

    return hook


def test_a_service_that_ignores_conditions_is_found_out(backend: S3Backend, outside: S3Outside, meddle: Any) -> None:
    meddle.register("before-sign.s3", _strip("If-None-Match"))
    assert backend.capabilities.conditional_write
    run(lambda: write(backend, "k", b"1"))
    assert not backend.capabilities.conditional_write
    with pytest.raises(ObjectExistsError):
        run(lambda: write(backend, "k", b"2", "t-2"))
    assert outside.get("k") == b"1"


def test_a_service_that_compares_etags_without_quotes(backend: S3Backend, outside: S3Outside, meddle: Any) -> None:
    def refuse_quotes(request: Any, **_: Any) -> None:
        if "If-Match" in request.headers:
            quoted = request.headers["If-Match"]
            del request.headers["If-Match"]
            request.headers["If-Match"] = f'"not-{quoted.strip(chr(34))}"'

    meddle.register("before-sign.s3", refuse_quotes)
    outside.put("k", b"content")
    version = run(lambda: backend.stat("k")).version
    assert run(lambda: read(backend, "k", 0, 7, version)) == b"content"
    outside.put("k", b"changed")
    with pytest.raises(BackendError, match="version"):
        run(lambda: read(backend, "k", 0, 7, version))


def test_a_service_without_etags(backend: S3Backend, outside: S3Outside, meddle: Any) -> None:
    def drop(parsed: dict[str, Any], **_: Any) -> None:
        if "ETag" in parsed:
            parsed["ETag"] = '""'
        for entry in parsed.get("Contents", ()):
            entry["ETag"] = ""

    for operation in ("HeadObject", "GetObject", "ListObjectsV2"):
        meddle.register(f"after-call.s3.{operation}", drop)
    content = pattern(20 << 20)
    status = run(lambda: write(backend, "k", content))
    assert status.version.startswith("time-")
    assert run(lambda: read(backend, "k", 5, 500, status.version)) == content[5:500]
    assert run(lambda: listed(backend, ""))["k"].version == status.version
    with pytest.raises(BackendError, match="version"):
        run(lambda: read(backend, "k", 0, 7, "time-1-7"))


def test_a_whole_answer_to_a_range_is_refused(backend: S3Backend, outside: S3Outside, meddle: Any) -> None:
    meddle.register("before-sign.s3.GetObject", _strip("Range"))
    outside.put("k", b"0123456789")
    assert run(lambda: read(backend, "k", 0, 10)) == b"0123456789"
    for start, stop in ((5, 10), (0, 5)):
        with pytest.raises(BackendError):
            run(lambda start=start, stop=stop: read(backend, "k", start, stop))


def test_parallel_reads_use_few_connections(seaweed: SeaweedServer, backend: S3Backend, outside: S3Outside) -> None:
    outside.put("k", pattern(1 << 20))

    async def check() -> None:
        with descriptor() as fd:
            async with trio.open_nursery() as nursery:
                for start in range(0, 1 << 20, 1 << 14):
                    nursery.start_soon(backend.read_into, "k", ByteRange(start, start + (1 << 14)), fd)
            assert os.pread(fd, 1 << 20, 0) == pattern(1 << 20)

    run(check)


# -- completing a large object ------------------------------------------------------------------------


def test_only_one_completes_at_a_time(backend: S3Backend, outside: S3Outside) -> None:
    """SeaweedFS itself lets several conditional completions pass that come at the same time."""
    contents = [bytes([65 + index]) * (6 << 20) for index in range(4)]
    backend._writer._part_bytes = 5 << 20
    for turn in range(6):
        won: list[int] = []

        async def attempt(index: int, key: str, won: list[int]) -> None:
            try:
                await write(backend, key, contents[index], f"t-{index}")
            except ObjectExistsError:
                return
            won.append(index)

        async def race(key: str, won: list[int]) -> None:
            async with trio.open_nursery() as nursery:
                for index in range(4):
                    nursery.start_soon(attempt, index, key, won)

        key = f"prize/{turn}"
        run(lambda key=key, won=won: race(key, won))
        (winner,) = won
        assert outside.get(key) == contents[winner]
    assert outside.residue() == set()


def test_the_claim_of_a_killed_completion_is_undone(backend: S3Backend, outside: S3Outside) -> None:
    outside.client.put_object(
        Bucket=outside.bucket, Key=outside.prefix + claim_key("a/k"), Metadata={"pantry-token": "t-1"}
    )
    content = pattern(20 << 20)
    with pytest.raises(ObjectExistsError):
        run(lambda: write(backend, "a/k", content, "t-2"))
    assert not run(lambda: backend.undo_write("a/k", token="t-2"))
    assert run(lambda: listed(backend, "")) == {}
    assert run(lambda: backend.undo_write("a/k", token="t-1"))
    assert outside.residue() == set()
    run(lambda: write(backend, "a/k", content, "t-2"))
    assert outside.get("a/k") == content


def test_a_large_first_write_learns_about_conditions_too(backend: S3Backend, outside: S3Outside) -> None:
    run(lambda: write(backend, "k", pattern(20 << 20)))
    assert backend._writer.conditional is True
    assert outside.residue() == set()
