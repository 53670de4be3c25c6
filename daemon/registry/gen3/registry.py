"""A Gen3 registry behind the same door as ours, for reading only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from pantry.daemon.registry import Registry
from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.described import Described, lacking, table_of
from pantry.daemon.registry.dimension_records import DimensionRecords
from pantry.daemon.registry.engine import Database
from pantry.daemon.registry.files import in_path_order
from pantry.daemon.registry.gen3.definitions import Gen3Definitions
from pantry.daemon.registry.gen3.lookup import Gen3Lookup, our_file
from pantry.daemon.registry.gen3.managers import read_gen3_attributes
from pantry.daemon.registry.gen3.tables import Gen3Schema
from pantry.daemon.registry.gen3.tree import Gen3Tree
from pantry.daemon.registry.operator_tables import OperatorTable, read_tables
from pantry.daemon.registry.queries import NamedFile, Queries
from pantry.daemon.registry.record_queries import RecordQueries
from pantry.errors import PermissionDeniedError
from pantry.model.dimensions import DimensionUniverse
from pantry.model.naming import directory_parts
from pantry.model.repository import DATA_MODEL_VERSION
from pantry.wire.operations.files import FileTable
from pantry.wire.operations.registry import QueryDatasets

T = TypeVar("T")


def refuse_to_write() -> NoReturn:
    """Raise what writing to an attached repository means."""
    raise PermissionDeniedError(
        "this is an attached Gen3 repository, which Pantry only reads",
        hint="write to it with the Gen3 Butler, or put into a repository of Pantry's own",
    )


class _ReadOnly:
    """Stands for every part that writes."""

    def __getattr__(self, name: str) -> NoReturn:
        refuse_to_write()


class Gen3Registry(Registry):
    """The registry of an attached Gen3 repository; see `Registry`. Made by `attach`.

    Every method that writes raises `PermissionDeniedError`.
    """

    def __init__(self, database: Database, schema: Gen3Schema, *, uuid: str) -> None:
        # Not the parent's: it starts a writer, and prepares statements of our own tables.
        self.universe = schema.universe
        self.uuid = uuid
        self.version = DATA_MODEL_VERSION
        self.writes = 0
        self.is_unfinished = False
        self.is_being_removed = False
        self.keeps_files_of: tuple[str, ...] = ()
        self.holders: dict[str, str] = {}
        self._database = database
        self._schema = schema
        self._definitions = Gen3Definitions(database, schema)
        for part in (
            "_collections",
            "_dataset_types",
            "_datasets",
            "_preparation",
            "_tagging",
            "imports",
            "provenance",
        ):
            setattr(self, part, _ReadOnly())
        self._records = DimensionRecords(database, schema)
        self._data_ids = DataIds(database, schema)
        self._lookup = Gen3Lookup(database, schema, self._data_ids)
        self._queries = Queries(database, schema, self._definitions, self._data_ids, self._records)
        self._record_queries = RecordQueries(database, schema, self._definitions, self._data_ids, self._records)
        self._tree = Gen3Tree(database, schema, self._definitions, self._data_ids)

    @classmethod
    def attach(
        cls,
        url: str,
        *,
        uuid: str,
        namespace: str = "",
        records: str = "file_datastore_records",
        tables: Sequence[OperatorTable] = (),
    ) -> Gen3Registry:
        """Open a Gen3 registry to read it.

        Parameters
        ----------
        url : str
            SQLAlchemy URL.
        uuid : str
            By which this repository is known here; Gen3 has none.
        namespace : str
            Schema of a PostgreSQL database, if not the connection's own.
        records : str
            Table of the datastore's records.
        tables : sequence of OperatorTable
            Beside the registry's own.

        Raises
        ------
        RepositoryNotFoundError
            If there is no Gen3 registry.
        ConfigError
            If a part of it was written by something unknown here.
        """
        database = Database(url, read_only=True, namespace=namespace)
        try:
            found = read_gen3_attributes(database)
            universe = DimensionUniverse(found.universe, source="the Gen3 registry's dimensions")
            known = read_tables(database, universe, tables)
            schema = Gen3Schema(
                known.universe, is_sqlite=database.is_sqlite, nanoseconds=found.nanoseconds, records=records
            )
            schema.adopt(known)
            return cls(database, schema, uuid=uuid)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def query_files(self, query: QueryDatasets) -> Iterator[list[NamedFile]]:
        """Find the files of datasets; see `Registry.query_files`."""
        for batch in super().query_files(query):
            yield [one._replace(file=our_file(one.file)) for one in batch if one.file.path]

    def describe_files(self, dataset_type: str, ids: Sequence[bytes]) -> FileTable:
        """Describe the files of datasets, one by one: Gen3 keeps their ids in another form on each engine."""
        described: list[Described] = []
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            known = definitions.dataset_type(dataset_type)
            for id_ in ids:
                found = self._lookup.get(session, definitions, UUID(bytes=id_))
                if found.ref is None or found.ref.dataset_type.name != known.definition.name:
                    raise lacking(known, id_)
                ordered = in_path_order(known, found.ref.data_id.required_values)
                parts = directory_parts(known.definition.name, ordered)
                name = "/".join([found.ref.run, *parts, found.name]) if found.file is not None else ""
                described.append((found.file, name, ()))
        return table_of(known, described)

    def _write(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        refuse_to_write()
