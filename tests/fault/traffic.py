"""Mixed traffic against the cache: what is stored, what is done with it, and whether the bytes are right."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import xxhash
from tests.integration.observatory import INSTRUMENT

from pantry.client import Butler
from pantry.model.datasets import DatasetRef
from pantry.wire.operations import EvictObjects

RUN = "u/traffic"


class WrongBytesError(AssertionError):
    """Bytes came that are not those that were stored."""


@dataclass(frozen=True)
class Stored:
    """A dataset, and what is in it.

    Attributes
    ----------
    ref : DatasetRef
        Which one.
    content : bytes
        All of it.
    whole_only : bool
        Never read in parts: a damaged part that has the right length cannot be told before the whole is there.
    """

    ref: DatasetRef
    content: bytes
    whole_only: bool

    @property
    def hash(self) -> str:
        return xxhash.xxh3_128_hexdigest(self.content)


@dataclass
class Shelf:
    """The datasets that are known to be stored, and the numbers of those to come.

    Attributes
    ----------
    seed : int
        Decides the contents.
    sizes : Sequence[int]
        Taken in turn, in bytes.
    """

    seed: int
    sizes: Sequence[int]
    stored: list[Stored] = field(default_factory=list)
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def content(self, exposure: int) -> bytes:
        """What belongs to an exposure."""
        chosen = random.Random(self.seed * 1_000_003 + exposure)
        return chosen.randbytes(self.sizes[exposure % len(self.sizes)] + chosen.randrange(100))

    def put(self, butler: Butler) -> Stored:
        """Store one dataset more."""
        with self._lock:
            self._next += 1
            exposure = self._next
        content = self.content(exposure)
        ref = butler.put(content, "blob", instrument=INSTRUMENT, exposure=exposure, detector=0, run=RUN)
        made = Stored(ref, content, whole_only=is_whole_only(exposure))
        with self._lock:
            self.stored.append(made)
        return made

    def one(self, chosen: random.Random) -> Stored:
        """Choose a stored dataset."""
        with self._lock:
            return self.stored[chosen.randrange(len(self.stored))]


def is_whole_only(exposure: int) -> bool:
    """Whether a dataset is read as a whole only; by number, so that a proxy can know it too."""
    return exposure % 2 == 0


def read_whole(butler: Butler, stored: Stored) -> None:
    """Read a dataset as a whole; raise unless it is right."""
    if butler.get(stored.ref) != stored.content:
        raise WrongBytesError(f"{stored.ref.data_id}: wrong bytes")


def read_parts(butler: Butler, stored: Stored, chosen: random.Random, parts: int = 4) -> None:
    """Read some ranges of a dataset; raise unless they are right."""
    size = len(stored.content)
    with butler.open(stored.ref, partial=True) as file:
        for _ in range(parts):
            start = chosen.randrange(size)
            length = chosen.choice([1, 1000, 100_000, size])
            file.seek(start)
            if file.read(length) != stored.content[start : start + length]:
                raise WrongBytesError(f"{stored.ref.data_id}: wrong bytes from {start}")


def operate(butler: Butler, shelf: Shelf, chosen: random.Random) -> str:
    """Do one thing, chosen at random, and check its bytes; return its name."""
    kind = chosen.choices(["whole", "parts", "put", "evict", "evict all"], [35, 40, 8, 14, 3])[0]
    if kind == "put":
        read_whole(butler, shelf.put(butler))
    elif kind == "evict all":
        butler.connection.call(EvictObjects(everything=True))
    elif kind == "evict":
        butler.connection.call(EvictObjects(hashes=tuple(shelf.one(chosen).hash for _ in range(5))))
    else:
        stored = shelf.one(chosen)
        if kind == "whole" or stored.whole_only:
            read_whole(butler, stored)
        else:
            read_parts(butler, stored, chosen)
    return kind
