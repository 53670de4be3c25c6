"""Every request that the daemon answers, with the type of its result.

An operation is a frozen struct with a stable tag. `Operation` has one `Reply`; a `StreamOperation`
has a stream of `Item`. ``Operation.result_type`` is what the client decodes.

A module of this package is imported when the first of its names is asked for (PEP 562): making all
these structs takes a third of the time that a client takes to start, which uses a few of them.
"""

# ruff: noqa: F403 - the names are in the table

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pantry.wire.operations.base import Operation as Operation
from pantry.wire.operations.base import StreamOperation as StreamOperation
from pantry.wire.operations.base import decode_operation as decode_operation

if TYPE_CHECKING:
    # Type checkers take all names of each module; a test holds the table below to them.
    from pantry.wire.operations.backends import *
    from pantry.wire.operations.browse import *
    from pantry.wire.operations.cache import *
    from pantry.wire.operations.configuration import *
    from pantry.wire.operations.credentials import *
    from pantry.wire.operations.data import *
    from pantry.wire.operations.discovery import *
    from pantry.wire.operations.exclusions import *
    from pantry.wire.operations.files import *
    from pantry.wire.operations.importing import *
    from pantry.wire.operations.integrity import *
    from pantry.wire.operations.keeping import *
    from pantry.wire.operations.metadata import *
    from pantry.wire.operations.objects import *
    from pantry.wire.operations.provenance import *
    from pantry.wire.operations.publishing import *
    from pantry.wire.operations.queries import *
    from pantry.wire.operations.registry import *
    from pantry.wire.operations.removing import *
    from pantry.wire.operations.repositories import *
    from pantry.wire.operations.subsetting import *

_HOMES = {
    "backends": "BackendInfo BackendList GetBackends",
    "browse": "ListTree TreeBatch TreeEntry",
    "cache": (
        "CacheListing CacheStatus CachedObject EvictObjects Evicted GetCacheStatus GetMetrics GetStatus "
        "ListCache Metrics SetOffline Status"
    ),
    "configuration": "ActiveConfiguration GetConfiguration",
    "credentials": "AddCredential CredentialInfo CredentialList ListCredentials RemoveCredential",
    "data": (
        "MAX_CONTENT_BYTES MAX_GROUP AbortPut BeginPut BeginPuts CloseOpened CommitPut CommitPuts FetchRanges "
        "IngestFiles IngestItem Ingested OpenDataset Opened PutContent PutDone PutTicket PutTickets "
        "StoredPuts Transfer"
    ),
    "discovery": "CountDatasets DatasetCounts Dimensions GetDimensions",
    "exclusions": "MAX_EXCLUDED MAX_EXCLUDED_GROUPS ExcludedDataIds ExcludedDatasets",
    "files": "MAX_DESCRIBED DescribeFiles DescribeMembers FileTable MemberTable",
    "importing": (
        "IS_NEW IS_STORED IS_WITHOUT_FILE MAX_MEMBERS ImportDatasets ImportDefinitions ImportItem "
        "ImportMembers ImportedCollection ImportedMembers Standings"
    ),
    "integrity": "DamageObject DamagedObject VerifyObjects VerifyProgress",
    "keeping": "ListPins Pin PinDatasets PinList Pinned Prefetch PrefetchFailure PrefetchProgress UnpinDatasets",
    "metadata": "MAX_RECORDED DatasetMetadata GetMetadata MetadataBatch QueryMetadata RecordMetadata",
    "objects": (
        "MAX_LOCATED ListObjects ListPrefixes LocateObjects LocatedObject LocatedObjects ObjectBatch ObjectInfo "
        "OpenObject OpenedObject PrefixInfo PrefixList StatObject"
    ),
    "provenance": (
        "MAX_PRODUCED MAX_QUANTA MAX_STARTS Direction GetProvenance QuantumBatch QueryQuanta QueryRelatives "
        "RecordQuanta RelativeBatch"
    ),
    "publishing": (
        "MAX_LISTED MAX_PUBLISHED MAX_WAIT_S ForgetPublications GetPublishStatus ListPublishTargets "
        "Publication PublicationCount PublicationList PublicationState PublishDatasets PublishStatus "
        "PublishTarget PublishTargetList RetryPublications"
    ),
    "queries": "MAX_TABLES MAX_TABLE_BYTES ListQueries QueryAnswer QueryInfo QueryList RunQuery ServiceInfo",
    "registry": (
        "Associate BindValue Certify CountDone DataIdBatch DatasetTypeList Decertify Disassociate "
        "EncodedRegion EncodedTimespan ExpandDataId ExpandedDataId FindDataset FoundDataset GetDataset "
        "InsertDimensionRecords ListDatasetTypes QueryDataIds QueryDatasets QueryDimensionRecords RecordBatch "
        "RecordTable RefBatch RegisterDatasetType RegisteredDatasetType"
    ),
    "removing": "MAX_REMOVED RemoveDatasets RemoveRepository RemovedDatasets RemovedRepository",
    "repositories": (
        "AttachRepository ChainRepositories CollectionList CreateRepository Done GetRepository "
        "ListRepositories QueryCollections RedefineChain RegisterCollection RepositoryList"
    ),
    "subsetting": "MAX_COPIED BeginSubset CopyDatasets FinishSubset SubsetBegun SubsetTransfer",
}
"""The public names of each module."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def load_all() -> None:
    """Import every module, so that all operations are known."""
    for home in _HOMES:
        import_module(f"{__name__}.{home}")


if not TYPE_CHECKING:
    # Type checkers read no list that is computed, and would believe in any name at all.
    __all__ = ["Operation", "StreamOperation", "decode_operation", *_HOME_OF]

    def __getattr__(name: str) -> Any:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return found
