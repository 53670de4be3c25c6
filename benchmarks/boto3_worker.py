"""boto3 as a peer: whole objects downloaded by its transfer manager with its own defaults."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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


def upload_tree(bucket: str, prefix: str, directory: str) -> int:
    """Upload all files below a directory; returns how many those were."""

    def one(path: Path) -> None:
        _client.put_object(Bucket=bucket, Key=f"{prefix}/{path.relative_to(directory)}", Body=path.read_bytes())

    paths = [path for path in Path(directory).rglob("*") if path.is_file()]
    with ThreadPoolExecutor(8) as threads:
        return sum(1 for _ in threads.map(one, paths))


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
    serve(
        {
            "connect": connect,
            "upload": upload,
            "upload_tree": upload_tree,
            "download": download,
            "first_byte": first_byte,
        }
    )
