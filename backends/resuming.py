"""Asking again for what a service failed to give, and going on where a body was cut."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from pantry.backends.admission import Admission
from pantry.backends.pumping import BodyCutError, Reading
from pantry.errors import TransientBackendError

_BACKOFF_S = 0.05
_LONGEST_WAIT_S = 1.0
"""A service that wants to be left alone for longer is left to the caller, who may have other work."""

T = TypeVar("T")


async def repeated(
    attempt: Callable[[], Awaitable[T]],
    *,
    most: int,
    failing: type[TransientBackendError] | tuple[type[TransientBackendError], ...] = TransientBackendError,
) -> T:
    """Call ``attempt`` until it does not fail, ``most`` times at most.

    Parameters
    ----------
    attempt : Callable[[], Awaitable]
        What is tried.
    most : int
        From 1.
    failing : type or tuple of types
        The errors after which it is tried again.
    """
    for number in range(1, most):
        try:
            return await attempt()
        except failing as exc:
            asked_s = exc.fields.get("retry_after_s", 0.0)
            if not isinstance(asked_s, int | float) or asked_s > _LONGEST_WAIT_S:
                raise
            pause_s = _BACKOFF_S * 2**number * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
            await trio.sleep(max(pause_s, asked_s))
    return await attempt()


async def read_on(
    read: Callable[[Reading], None],
    reading: Reading,
    admission: Admission,
    *,
    most: int,
    failing: type[TransientBackendError] | tuple[type[TransientBackendError], ...] = BodyCutError,
) -> None:
    """Call ``read`` in a thread; when the body is cut, again for the rest.

    The rest is of the same version as the beginning, whatever the caller asked for; where nobody knows which that
    was, all is read anew. ``most`` and ``failing`` are as of `repeated`.
    """

    async def attempt() -> None:
        nonlocal reading
        try:
            await admission.call(partial(read, reading))
        except BodyCutError as exc:
            if exc.version:
                reading = reading._replace(start=exc.position, if_version=exc.version)
            raise

    try:
        await repeated(attempt, most=most, failing=failing)
    except BodyCutError as exc:
        raise TransientBackendError(exc.message, key=reading.key) from exc
