"""From a dataset to the requests that publish it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import msgspec
import trio

from pantry.daemon.publishing.sending import Request
from pantry.daemon.publishing.target import Target
from pantry.daemon.publishing.templates import UnfitError, fill, look_up, places
from pantry.model.datasets import DatasetRef, StoredFile

RENDER_S = 120.0
"""How long the process that reads another format than JSON may take, in seconds."""

_MAX_ROWS = 1_000_000
_RENDERER = "pantry.client.rendering"


class Opened(NamedTuple):
    """A dataset whose file is open.

    Attributes
    ----------
    ref : DatasetRef
        Which.
    repository : str
        Name of the repository that has it.
    file : StoredFile
        What is recorded of its file.
    fd : int
        To read it by; whoever made this closes it.
    """

    ref: DatasetRef
    repository: str
    file: StoredFile
    fd: int


async def requests_of(target: Target, dataset: Opened) -> Sequence[Request]:
    """Make the requests that publish a dataset, always the same for the same dataset and configuration.

    Raises
    ------
    PublishError
        It does not fit what the target's configuration wants.
    """
    known = described(dataset)
    if target.config.form == "file":
        # Its own descriptor: a request that is given up may go on in its thread for a moment.
        file: BinaryIO = open(os.dup(dataset.fd), "rb", buffering=0)  # noqa: ASYNC230, SIM115 - no disk is touched
        return [Request(target.path({**known, "part": 1}), str(dataset.ref.id), file, dataset.file.size_bytes)]
    known["content"] = await _content(target, dataset)
    return await trio.to_thread.run_sync(lambda: list(_requests(target, known)))


def described(dataset: Opened) -> dict[str, Any]:
    """Return what is known of any dataset, by the names that templates call it."""
    ref = dataset.ref
    return {
        "id": str(ref.id),
        "dataset_type": ref.dataset_type.name,
        "storage_class": ref.dataset_type.storage_class,
        "run": ref.run,
        "repository": dataset.repository,
        "data_id": ref.data_id.mapping,
        "hash": dataset.file.hash,
        "size_bytes": dataset.file.size_bytes,
        "time": _iso(dataset.file.ingest_ns),
    }


def _iso(ns: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _requests(target: Target, known: Mapping[str, Any]) -> Iterator[Request]:
    config = target.config
    for number, group in enumerate(_groups(target, known), 1):
        own = {**known, "part": number, **({"rows": group} if group is not None else {})}
        template = config.body
        if template is None:
            template = "{rows}" if config.rows else {name: f"{{{name}}}" for name in (*_USUAL, "content")}
        try:
            body = msgspec.json.encode(fill(template, own))
        except (TypeError, ValueError, RecursionError) as exc:
            raise UnfitError(f"{known['dataset_type']} {known['id']} cannot be written as JSON: {exc}") from None
        if len(body) > config.most_bytes:
            raise UnfitError(
                f"{known['dataset_type']} {known['id']} makes a body of {len(body)} bytes, and {target.name!r} takes"
                f" {config.most_bytes}",
                hint="its operator can lower rows_per_request, or raise most_bytes",
            )
        path = target.path(own)
        key = str(known["id"]) if number == 1 else f"{known['id']}-{number}"
        yield Request(path, key, body, len(body))


_USUAL = ("id", "dataset_type", "run", "repository", "data_id", "time")


def _groups(target: Target, known: Mapping[str, Any]) -> Iterator[list[Any] | None]:
    """Give what goes into each request: filled-in rows, or None for a dataset that is one."""
    config = target.config
    if not config.rows:
        yield None
        return
    found = look_up(next(places(config.rows)), known)
    if isinstance(found, Mapping):
        found = [{"key": key, "value": value} for key, value in found.items()]
    if not isinstance(found, list):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise UnfitError(f"{known['dataset_type']} {known['id']} has {what} at {config.rows}, where rows should be")
    if len(found) > _MAX_ROWS:
        raise UnfitError(f"{known['dataset_type']} {known['id']} has {len(found)} rows, more than {_MAX_ROWS}")
    for start in range(0, len(found), config.rows_per_request):
        yield [fill(config.row, {**known, "row": one}) for one in found[start : start + config.rows_per_request]]


async def _content(target: Target, dataset: Opened) -> Any:
    size = dataset.file.size_bytes
    if size > target.config.most_bytes:
        raise UnfitError(
            f"{dataset.ref} has {size} bytes, and {target.name!r} makes documents of at most"
            f" {target.config.most_bytes}",
            hint="its operator can raise most_bytes, or send such files as they are: form: file",
        )
    if dataset.file.formatter != "json":
        return await _rendered(target, dataset)
    try:
        return await trio.to_thread.run_sync(lambda: msgspec.json.decode(os.pread(dataset.fd, size, 0)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UnfitError(f"{dataset.ref} is no JSON: {exc}") from None


async def _rendered(target: Target, dataset: Opened) -> Any:
    """Let another process read the file: format libraries are not loaded here, nor do hostile files meet our rights.

    It gets the file and nothing else: no credential, no socket, little time and memory.
    """
    out = os.memfd_create("pantry-rendered", os.MFD_CLOEXEC)
    try:
        argv = [sys.executable, "-m", _RENDERER, dataset.file.formatter, str(2 * target.config.most_bytes)]
        environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
        with trio.move_on_after(RENDER_S) as scope:
            done = await trio.run_process(
                argv, stdin=dataset.fd, stdout=out, capture_stderr=True, check=False, cwd="/", env=environment
            )
        if scope.cancelled_caught:
            raise UnfitError(f"{dataset.ref} could not be read within {RENDER_S:g} s")
        if done.returncode != 0:
            lines = (done.stderr or b"").decode("utf-8", "replace").strip().splitlines()
            reason = lines[-1][:300] if lines and done.returncode == 1 else f"its reader ended with {done.returncode}"
            raise UnfitError(f"{dataset.ref} cannot be published as a document: {reason}")
        size = os.fstat(out).st_size
        return await trio.to_thread.run_sync(lambda: msgspec.json.decode(os.pread(out, size, 0)))
    finally:
        os.close(out)
