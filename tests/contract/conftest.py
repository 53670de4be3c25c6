"""Real servers for the contract tests, one per session; fresh buckets for every test."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.fault.proxy import FaultProxy
from tests.servers.moto import MotoServer
from tests.servers.seaweedfs import SeaweedServer

from pantry.backends.admission import Admission
from pantry.backends.s3 import S3Backend, S3BackendFactory

_numbers = itertools.count()
_buckets: weakref.WeakKeyDictionary[SeaweedServer | MotoServer, str] = weakref.WeakKeyDictionary()


@pytest.fixture
def admission() -> Admission:
    return Admission(user_limit=16, node_limit=16)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    with MotoServer() as server:
        server.start(tmp_path_factory.mktemp("moto"))
        yield server


@pytest.fixture(scope="session")
def seaweed_client(seaweed: SeaweedServer) -> Iterator[Any]:
    client = seaweed.client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def moto_client(moto: MotoServer) -> Iterator[Any]:
    client = moto.client()
    yield client
    client.close()


@pytest.fixture
def proxy(seaweed: SeaweedServer) -> Iterator[FaultProxy]:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        yield proxy


def new_root(server: SeaweedServer | MotoServer) -> tuple[str, str]:
    """Give one test an empty root of its own: the session's bucket and a prefix in it.

    Not a bucket each: every bucket of SeaweedFS takes volumes of its own, and they run out.
    """
    if server not in _buckets:
        _buckets[server] = server.bucket("contract")
    return _buckets[server], f"test/{next(_numbers):04d}/"


def s3_options(server: SeaweedServer | MotoServer, **changed: object) -> dict[str, object]:
    """Options that reach ``server``."""
    options: dict[str, object] = {
        "endpoint_url": server.endpoint_url,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "region": server.region,
    }
    return {name: value for name, value in (options | changed).items() if value is not None}


def s3_backend(server: SeaweedServer | MotoServer, bucket: str, prefix: str, **changed: object) -> S3Backend:
    """Make a backend of ``bucket`` on ``server``; the test closes it by `close`."""
    root = f"s3://{bucket}/{prefix}"
    backend = S3BackendFactory(root, s3_options(server, **changed), Admission(user_limit=16, node_limit=16))
    assert isinstance(backend, S3Backend)
    return backend


def close(backend: S3Backend) -> None:
    trio.run(backend.aclose)


class S3Outside:
    """A bucket seen through boto3, without the class under test."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = prefix

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=content)

    def get(self, key: str) -> bytes | None:
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)
        except self.client.exceptions.NoSuchKey:
            return None
        with answer["Body"] as body:
            return bytes(body.read())

    def keys(self) -> set[str]:
        return {key for key in self._names() if ".pantry-" not in key}

    def _names(self) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        found = {entry["Key"] for page in pages for entry in page.get("Contents", ())}
        return {key[len(self.prefix) :] for key in found}

    def residue(self) -> set[str]:
        answer = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.prefix)
        uploads = {entry["Key"][len(self.prefix) :] for entry in answer.get("Uploads", ())}
        return uploads | {key for key in self._names() if ".pantry-" in key}


class PosixOutside:
    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, content: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}~")
        fresh.write_bytes(content)
        fresh.replace(path)

    def get(self, key: str) -> bytes | None:
        path = self.root / key
        return path.read_bytes() if path.exists() else None

    def _files(self) -> set[str]:
        return {
            str((Path(directory) / name).relative_to(self.root))
            for directory, _, names in os.walk(self.root)
            for name in names
        }

    def keys(self) -> set[str]:
        return {name for name in self._files() if ".pantry-" not in name}

    def residue(self) -> set[str]:
        empty = {directory for directory, below, names in os.walk(self.root) if not below and not names} - {
            str(self.root)
        }
        return {name for name in self._files() if ".pantry-" in name} | empty
