"""Telling the caller of a read how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int], None]
"""Called with the offset up to which the bytes of a read are in the caller's descriptor."""

PROGRESS_BYTES = 1 << 20
"""A read tells its progress at least once for so many bytes."""


class _CallerFailedError(Exception):
    """Carries nothing; `reporting` has the caller's error."""


@contextmanager
def reporting(on_progress: Progress | None) -> Iterator[Progress]:
    """Give a function that calls ``on_progress``.

    What ``on_progress`` raises leaves this block as it was raised: a backend that translates errors
    inside the block must not take an `OSError` of its caller for one of the service.
    """
    failed: list[BaseException] = []

    def report(position: int) -> None:
        if on_progress is None:
            return
        try:
            on_progress(position)
        except BaseException as exc:
            failed.append(exc)
            raise _CallerFailedError from exc

    try:
        yield report
    except _CallerFailedError:
        raise failed[0] from None
