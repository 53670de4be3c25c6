"""The real daemon, which dies or fails at a given step of a write. Run as a module, in place of the daemon's own.

``STEPS_FILE`` names a file: while it exists, each step appends its name to it, and the step with the number ``STEP_AT``
does what ``STEP_DO`` says: ``kill`` or ``fail``, ``before`` or ``after`` it (as ``kill-before``). ``STEP_BROKEN`` names
a method that always fails. With ``STEP_WITHIN=remove`` only what a request to delete datasets does is a step, and not
what the daemon goes on with from before meanwhile.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from pantry.backends.posix import PosixBackend
from pantry.backends.s3 import S3Backend
from pantry.backends.sql import SqlBackend
from pantry.daemon import main
from pantry.daemon.datasets.removing import Remover
from pantry.daemon.journal import Journal
from pantry.daemon.registry import Registry
from pantry.daemon.repositories.remembered import RememberedDescriptions
from pantry.daemon.repositories.service import Repositories
from pantry.daemon.repositories.site_index import SiteIndex
from pantry.errors import BackendError

STEPS: list[tuple[type[Any], str]] = [
    (Journal, "record"),
    (Remover, "_record"),
    (PosixBackend, "write_from"),
    (S3Backend, "write_from"),
    (SqlBackend, "write_from"),
    (Registry, "insert_together"),
    (Registry, "remove_datasets"),
    (Registry, "claim_removed_files"),
    (PosixBackend, "delete"),
    (S3Backend, "delete"),
    (Registry, "forget_removed"),
    (Registry, "begin_removal"),
    (SiteIndex, "replace"),
    (Repositories, "forget"),
    (RememberedDescriptions, "forget"),
    (SiteIndex, "remove"),
    (PosixBackend, "settle_write"),
    (S3Backend, "settle_write"),
    (SqlBackend, "settle_write"),
    (Journal, "clear"),
    (Journal, "clear_now"),
]
_lock = threading.Lock()


_removing: ContextVar[bool] = ContextVar("removing", default=False)


def _mark_removals() -> None:
    inner = Remover.remove

    @functools.wraps(inner)
    async def remove(*args: Any, **options: Any) -> Any:
        before = _removing.set(True)
        try:
            return await inner(*args, **options)
        finally:
            _removing.reset(before)

    Remover.remove = remove  # type: ignore[method-assign]


def _is_the_one(name: str) -> bool:
    if os.environ.get("STEP_WITHIN") == "remove" and not _removing.get():
        return False
    path = os.environ["STEPS_FILE"]
    with _lock:
        if not os.path.exists(path):
            return False
        with open(path, "a+", encoding="ascii") as file:
            file.seek(0)
            number = len(file.readlines())
            file.write(name + "\n")
        return number == int(os.environ.get("STEP_AT", "-1"))


def _act(when: str) -> None:
    do = os.environ.get("STEP_DO", "")
    if do.endswith(when):
        os.environ["STEP_AT"] = "-1"  # once
    if do == f"kill-{when}":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == f"fail-{when}":
        raise BackendError("the test lets this step fail")


def _stepping(kind: type[Any], name: str) -> None:
    inner: Callable[..., Any] = getattr(kind, name)
    label = f"{kind.__name__}.{name}"
    if inspect.iscoroutinefunction(inner):

        @functools.wraps(inner)
        async def asynchronous(*args: Any, **options: Any) -> Any:
            chosen = _is_the_one(label)
            if chosen:
                _act("before")
            result = await inner(*args, **options)
            if chosen:
                _act("after")
            return result

        setattr(kind, name, asynchronous)
        return

    @functools.wraps(inner)
    def synchronous(*args: Any, **options: Any) -> Any:
        chosen = _is_the_one(label)
        if chosen:
            _act("before")
        result = inner(*args, **options)
        if chosen:
            _act("after")
        return result

    setattr(kind, name, synchronous)


def _break(name: str) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise BackendError(f"the test lets {name} fail")

    kind, _, method = name.partition(".")
    setattr({"Registry": Registry}[kind], method, broken)


if __name__ == "__main__":
    _mark_removals()
    for step in STEPS:
        _stepping(*step)
    if os.environ.get("STEP_BROKEN"):
        _break(os.environ["STEP_BROKEN"])
    sys.exit(main.main())
