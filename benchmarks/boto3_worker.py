"""boto3 as a peer: whole objects downloaded by its transfer manager with its own defaults."""

from __future__ import annotations

import os
import time
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.channel import serve
from benchmarks.timing import read_through

_client: Any


def connect(endpoint_url: str, access_key: str, secret_key: str, region: str) -> None:
    global _client
    _client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        config=Config(s3={"addressing_style": "path"}),
    )


def upload(bucket: str, key: str, path: str) -> None:
    _client.upload_file(path, bucket, key)


def download(bucket: str, key: str, path: str) -> dict[str, Any]:
    """Download to a new file, and read that once through."""
    begun = time.perf_counter()
    with open(path, "wb") as file:
        _client.download_fileobj(bucket, key, file)
    size = read_through(path)
    taken = time.perf_counter() - begun
    os.unlink(path)
    return {"s": taken, "bytes": size}


def first_byte(bucket: str, key: str) -> float:
    begun = time.perf_counter()
    body = _client.get_object(Bucket=bucket, Key=key)["Body"]
    assert len(body.read(1)) == 1
    taken = time.perf_counter() - begun
    body.close()
    return taken


if __name__ == "__main__":
    serve({"connect": connect, "upload": upload, "download": download, "first_byte": first_byte})
