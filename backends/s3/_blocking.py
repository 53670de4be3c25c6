"""What the backend does in threads: the only module that knows boto3.

botocore's errors become `BackendError` here, in `translate_s3_errors`, and nowhere else. boto3 is
imported on the first request; it is too heavy to load with the configuration.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pantry.backends.contract import ObjectStat, SinkError, check_version, is_key
from pantry.backends.progress import reporting
from pantry.backends.pumping import Pace, Reading, pump
from pantry.backends.retry_after import telling_when
from pantry.backends.s3 import _answers
from pantry.backends.s3._answers import NotImplementedAnswerError, PreconditionError
from pantry.backends.s3.options import S3Options
from pantry.backends.sending import PositionedReader
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ObjectNotFoundError,
    TransientBackendError,
)

TOKEN_KEY = "pantry-token"  # noqa: S105 - the name of the metadata, not a secret
_LOGGERS = ("boto3", "botocore", "s3transfer", "urllib3")
_CREDENTIALS_HINT = (
    "Give the options access_key_id and secret_access_key, or profile and credentials_file, of this storage root; "
    "without them the daemon's environment and instance role are asked."
)


class Page(NamedTuple):
    """One page of a listing."""

    objects: list[ObjectStat]
    following: str | None


@contextmanager
def translate_s3_errors(key: str) -> Iterator[None]:
    """Turn failures of botocore and of the connection into `BackendError`; nothing above sees botocore."""
    import botocore.exceptions as sdk
    import urllib3.exceptions

    try:
        yield
    except SinkError:
        raise
    except sdk.ClientError as exc:
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        error = _answers.translated(str(exc.response["Error"].get("Code", status)), status, key)
        headers = exc.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if isinstance(error, TransientBackendError):
            telling_when(error, headers)
        raise error from exc
    except (sdk.NoCredentialsError, sdk.CredentialRetrievalError, sdk.PartialCredentialsError) as exc:
        raise BackendAccessError(f"no credentials for {key!r}", hint=_CREDENTIALS_HINT, key=key) from exc
    except (sdk.ProfileNotFound, sdk.ConfigParseError, sdk.ConfigNotFound) as exc:
        raise BackendAccessError("the credentials file or profile cannot be read", hint=_CREDENTIALS_HINT) from exc
    except sdk.SSLError as exc:
        raise BackendError(
            f"no trusted TLS connection to the service of {key!r}", hint="Check endpoint_url and certificates.", key=key
        ) from exc
    except (
        sdk.HTTPClientError,
        sdk.ConnectionError,
        sdk.IncompleteReadError,
        # botocore lets it pass where the body of an error breaks off.
        urllib3.exceptions.HTTPError,
        OSError,
    ) as exc:
        # Only the class: the text may hold the URL with its signature.
        raise TransientBackendError(f"the service failed at {key!r}: {type(exc).__name__}", key=key) from exc
    except sdk.BotoCoreError as exc:
        raise BackendError(f"the request for {key!r} could not be sent: {type(exc).__name__}", key=key) from exc


class S3Store:
    """Blocking requests to one bucket; safe for use by many threads.

    Parameters
    ----------
    bucket : str
        Name of the bucket.
    prefix : str
        Put before each key; empty or ending in a slash.
    options : S3Options
        How to reach the service.
    """

    def __init__(self, bucket: str, prefix: str, options: S3Options) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._options = options
        self._lock = threading.Lock()
        self._made: Any = None
        self._send_if_match = True

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = _make_client(self._options)
            return self._made

    def _target(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def head(self, key: str) -> tuple[ObjectStat, str | None]:
        """Describe an object, and tell the token it was written with."""
        with translate_s3_errors(key):
            answer = self._client.head_object(**self._target(key))
        token = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}.get(TOKEN_KEY)
        return _answers.described(key, answer, answer["ContentLength"]), token

    def read_span(self, reading: Reading) -> None:
        """Stream the wanted bytes of the object into the descriptor; `BodyCutError` if the body ends early."""
        key, start, stop = reading.key, reading.start, reading.stop
        with reporting(reading.on_progress) as report, translate_s3_errors(key):
            answer = self._get(key, start, stop, reading.if_version)
            with answer["Body"] as raw:
                version = _answers.check_range(key, answer, start, stop, reading.if_version)
                pace = Pace(self._options.min_bytes_per_s, self._options.read_timeout_s)
                pump(raw, reading, version=version, report=report, pace=pace)

    def _get(self, key: str, start: int, stop: int, if_version: str | None) -> dict[str, Any]:
        request = {**self._target(key), "Range": f"bytes={start}-{stop - 1}"}
        if not self._send_if_match or if_version is None or not _answers.is_strong_etag(if_version):
            answer: dict[str, Any] = self._client.get_object(**request)
            return answer
        try:
            with translate_s3_errors(key):
                answer = self._client.get_object(**request, IfMatch=f'"{if_version}"')
        except PreconditionError:
            check_version(key, self.head(key)[0].version, if_version)
            # A service that compares without the quotes. The answer's own ETag is compared anyway.
            self._send_if_match = False
            answer = self._client.get_object(**request)
        return answer

    def list_page(self, prefix: str, following: str | None) -> Page:
        """List up to 1000 objects whose key begins with ``prefix``, from the mark of the page before."""
        request = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        if following is not None:
            request["ContinuationToken"] = following
        with translate_s3_errors(prefix):
            answer = self._client.list_objects_v2(**request)
        objects = [
            _answers.described(entry["Key"][len(self._prefix) :], entry, entry["Size"])
            for entry in answer.get("Contents", ())
            if is_key(entry["Key"][len(self._prefix) :])
        ]
        return Page(objects, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None)

    def put(
        self, key: str, fd: int, size_bytes: int, token: str, checkpoint: Callable[[], None], *, conditional: bool
    ) -> None:
        """Store an object by one request; with ``conditional`` only if there is none."""
        with translate_s3_errors(key):
            self._client.put_object(
                **self._target(key),
                Body=PositionedReader(fd, 0, size_bytes, checkpoint) if size_bytes else b"",
                ContentLength=size_bytes,
                Metadata={TOKEN_KEY: token},
                **_if_none_match(conditional),
            )

    def create_upload(self, key: str, token: str) -> str:
        """Begin a multipart upload and return its id."""
        with translate_s3_errors(key):
            answer = self._client.create_multipart_upload(**self._target(key), Metadata={TOKEN_KEY: token})
        return str(answer["UploadId"])

    def upload_part(
        self, key: str, upload: str, number: int, fd: int, start: int, stop: int, checkpoint: Callable[[], None]
    ) -> str:
        """Send one part and return its ETag."""
        with translate_s3_errors(key):
            answer = self._client.upload_part(
                **self._target(key),
                UploadId=upload,
                PartNumber=number,
                Body=PositionedReader(fd, start, stop, checkpoint),
                ContentLength=stop - start,
            )
        return str(answer["ETag"])

    def complete_upload(self, key: str, upload: str, etags: list[str], *, conditional: bool) -> None:
        """Make the parts one object; with ``conditional`` only if there is none."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        with translate_s3_errors(key):
            self._client.complete_multipart_upload(
                **self._target(key), UploadId=upload, MultipartUpload={"Parts": parts}, **_if_none_match(conditional)
            )

    def abort_upload(self, key: str, upload: str) -> bool:
        """Drop an upload and its parts; False if it is no more."""
        try:
            with translate_s3_errors(key):
                self._client.abort_multipart_upload(**self._target(key), UploadId=upload)
        except ObjectNotFoundError:
            return False
        return True

    def uploads_of(self, key: str) -> list[str]:
        """Ids of all unfinished uploads of exactly ``key``."""
        name = self._prefix + key
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": name}
        found: list[str] = []
        while True:
            with translate_s3_errors(key):
                answer = self._client.list_multipart_uploads(**request)
            found += [entry["UploadId"] for entry in answer.get("Uploads", ()) if entry["Key"] == name]
            marks = {"KeyMarker": answer.get("NextKeyMarker"), "UploadIdMarker": answer.get("NextUploadIdMarker")}
            if not answer.get("IsTruncated") or not marks["KeyMarker"] or marks["KeyMarker"] > name:
                return found
            request |= {mark: value for mark, value in marks.items() if value}

    def delete(self, key: str, *, if_version: str | None = None) -> None:
        """Delete an object; with ``if_version`` only that version, where the service knows how."""
        condition = {"IfMatch": f'"{if_version}"'} if if_version and _answers.is_strong_etag(if_version) else {}
        try:
            with translate_s3_errors(key):
                self._client.delete_object(**self._target(key), **condition)
        except ObjectNotFoundError:
            return
        except NotImplementedAnswerError:
            if not condition:
                raise
            self.delete(key)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None


def _if_none_match(conditional: bool) -> dict[str, str]:
    return {"IfNoneMatch": "*"} if conditional else {}


def _make_client(options: S3Options) -> Any:
    import boto3
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    # At DEBUG these libraries log whole requests, with session tokens and signatures.
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.INFO))
    with translate_s3_errors(options.endpoint_url or "S3"):
        # An explicit profile keeps the environment's keys out, also when only a file was named.
        profile = options.profile or ("default" if options.credentials_file else None)
        core = botocore.session.Session(profile=profile)
        if options.credentials_file:
            core.set_config_variable("credentials_file", options.credentials_file)
        session = boto3.session.Session(botocore_session=core)
        keys = (options.access_key_id, options.secret_access_key, options.session_token)
        access, secret, token = (None if key is None else key.reveal() for key in keys)
        return session.client(
            "s3",
            endpoint_url=options.endpoint_url,
            region_name=options.region or session.region_name or "us-east-1",
            aws_access_key_id=access,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(
                signature_version=UNSIGNED if options.anonymous else None,
                connect_timeout=options.connect_timeout_s,
                read_timeout=options.read_timeout_s,
                max_pool_connections=options.max_connections,
                tcp_keepalive=True,
                retries={"mode": "standard", "total_max_attempts": options.max_attempts},
                # The newer defaults send trailing checksums, which other services than Amazon's refuse.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": options.addressing_style},
            ),
        )
