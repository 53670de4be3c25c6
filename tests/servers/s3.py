"""What tests do with any S3 server: make clients and buckets."""

from __future__ import annotations

from typing import Any

from tests.servers.process import Server

REGION = "us-east-1"


class S3Server(Server):
    """An S3 service on loopback with one identity; a context manager that stops it.

    Attributes
    ----------
    access_key, secret_key, region : str
        Of the identity that may do everything.
    """

    access_key: str
    secret_key: str
    region = REGION
    _base = 0

    @property
    def port(self) -> int:
        return self._base

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._base}"

    def client(self, **config: Any) -> Any:
        """Make an independent boto3 client with the server's own identity."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, **config),
        )

    def bucket(self, name: str) -> str:
        """Make the bucket ``name`` and return the name."""
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return name
