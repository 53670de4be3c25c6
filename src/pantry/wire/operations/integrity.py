"""Operations that ask whether the cache is sound, and for tests make it unsound."""

from __future__ import annotations

from typing import Literal

import msgspec

from pantry.model.data_id import DataIdValue
from pantry.wire.operations.base import Operation, StreamOperation
from pantry.wire.operations.repositories import Done


class DamagedObject(msgspec.Struct, frozen=True, array_like=True):
    """An object whose content was not what its name says; it is no longer handed out.

    Attributes
    ----------
    hash, name : str
        Which object, and a path by which it was read.
    fetched : bool
        Whether a sound copy was fetched from the origin.
    problem : str
        Why not; empty if it was, or was not to be.
    """

    hash: str
    name: str
    fetched: bool
    problem: str = ""


class VerifyProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a verification is; all numbers are since its beginning.

    Attributes
    ----------
    objects_done, objects_total, bytes_done, bytes_total : int
        Complete objects in the cache that were read again, and all that are to be.
    damaged_objects, fetched_objects : int
        How many of them were damaged, and of those how many were fetched again.
    damaged : tuple of DamagedObject
        Those found since the batch before.
    """

    objects_done: int
    objects_total: int
    bytes_done: int
    bytes_total: int
    damaged_objects: int
    fetched_objects: int
    damaged: tuple[DamagedObject, ...] = ()


class VerifyObjects(StreamOperation[VerifyProgress], frozen=True, kw_only=True, omit_defaults=True, tag="cache.verify"):
    """Read complete objects of the cache again; what is damaged is put aside and fetched anew.

    Only objects of repositories that the user may read are meant.

    Attributes
    ----------
    hashes : tuple of str
        Which, by hash.
    everything : bool
        All.
    repository, dataset_types, collections, where, data_id
        Or what a query finds, as of `QueryDatasets`; not asked if ``repository`` is empty.
    refetch : bool
        Fetch damaged ones again.
    """

    result_type = VerifyProgress
    hashes: tuple[str, ...] = ()
    everything: bool = False
    repository: str = ""
    dataset_types: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    where: str = ""
    data_id: dict[str, DataIdValue] = {}
    refetch: bool = True


class DamageObject(Operation[Done], frozen=True, kw_only=True, omit_defaults=True, tag="cache.damage"):
    """Damage a cached object on purpose, for tests; administrators, where ``cache.allow_damage`` is set.

    Attributes
    ----------
    hash : str
        Which object.
    how : str
        ``flip`` a byte's bits, ``zero`` a block of 4 KiB, or ``truncate`` the file.
    at : int
        Where, in bytes from the beginning.
    """

    result_type = Done
    hash: str
    how: Literal["flip", "zero", "truncate"] = "flip"
    at: int = 0
