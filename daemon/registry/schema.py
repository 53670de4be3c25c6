"""The tables of a registry (docs/decisions/0010-registry-schema.md).

Fixed tables, one table of records per dimension element, and one table of data ids per dimension
group. Columns of dimensions are called as the dimension, in every table, so that joins need no map.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import sqlalchemy as sa

from pantry.daemon.registry.members import Members
from pantry.daemon.registry.operator_tables import KnownTables
from pantry.model.datasets import DatasetType
from pantry.model.dimensions import Column, DimensionElement, DimensionGroup, DimensionUniverse

# An INTEGER PRIMARY KEY is SQLite's row id itself; BIGINT would be a second index.
_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TYPES: dict[str, type[sa.types.TypeEngine[Any]]] = {
    "int": sa.BigInteger,
    "float": sa.Double,
    "bool": sa.Boolean,
}


_DECLARED: dict[str, type[sa.types.TypeEngine[Any]]] = {**_TYPES, "string": sa.Text}


def metadata_entry_table() -> sa.Table:
    """Make the table of the entries that dataset types declare; it exists from the first of them on."""
    return sa.Table(
        "metadata_entry",
        sa.MetaData(),
        sa.Column("dataset_type_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("doc", sa.Text, nullable=False),
    )


def column_type(column: Column) -> sa.types.TypeEngine[Any]:
    """Give the SQL type of a key or metadata column; hashes are hex text."""
    if column.type == "string":
        return sa.String(column.length)
    if column.type == "hash":
        return sa.String(2 * column.nbytes if column.nbytes else None)
    return _TYPES[column.type]()


class Schema:
    """The tables for one universe of dimensions.

    Attributes
    ----------
    fixed : list of Table
        Tables to make when a registry is created, each after those it refers to.
    elements : dict of str to Table
        Tables of dimension records by element; none for sky pixels, whose values need no record.
    sky_overlaps : dict of str to Table
        For each spatial element the sky pixels that the regions of its records touch.
    staged_ids, staged_paths, staged_tokens : Table
        Temporary tables of dataset ids, of these with the paths of files, and of tokens of removals.
    has_data_ids : bool
        Whether there are tables of data ids, which members of collections refer to.
    foreign, several : frozenset of str
        Elements that are tables of an operator's; those of them that may have several rows for one data id.

    Parameters
    ----------
    universe : DimensionUniverse
        The repository's dimensions.
    """

    has_data_ids = True

    def __init__(self, universe: DimensionUniverse) -> None:
        self.universe = universe
        self.foreign: frozenset[str] = frozenset()
        self.several: frozenset[str] = frozenset()
        self.metadata = sa.MetaData()
        self._make_definitions()
        self._make_datasets()
        self.fixed = list(self.metadata.sorted_tables)
        self.elements: dict[str, sa.Table] = {}
        for element in universe.elements.values():
            if element.name not in universe.skypix:
                self.elements[element.name] = self._make_element(element)
        self.sky_overlaps = {
            name: self._make_sky_overlap(name) for name in self.elements if universe.elements[name].spatial
        }
        self.fixed += [*self.elements.values(), *self.sky_overlaps.values()]
        self._staged: dict[tuple[int, DimensionGroup] | str, sa.Table] = {}
        self.staged_ids = self.staging("uuid", [sa.Column("uuid", sa.LargeBinary(16), nullable=False)])
        self.staged_paths = self.staging(
            "path", [sa.Column("uuid", sa.LargeBinary(16), nullable=False), sa.Column("path", sa.Text, nullable=False)]
        )
        self.staged_tokens = self.staging("token", [sa.Column("token", sa.String(64), nullable=False)])
        self._data_ids: dict[tuple[int, DimensionGroup], sa.Table] = {}
        self.metadata_entry = metadata_entry_table()
        self._declared: dict[tuple[int, DatasetType], sa.Table] = {}

    def adopt(self, tables: KnownTables) -> None:
        """Take the operator's tables in the place of those that were made for their elements."""
        self.foreign, self.several = frozenset(tables.sources), tables.several
        self.elements.update(cast("dict[str, sa.Table]", tables.sources))

    def _make_definitions(self) -> None:
        self.attribute = sa.Table(
            "repository_attributes",
            self.metadata,
            sa.Column("key", sa.String(64), primary_key=True),
            sa.Column("value", sa.Text, nullable=False),
        )
        # A random token per topic, changed with every change of a definition: what a process has in
        # memory is true as long as its tokens are those in the database.
        self.revision = sa.Table(
            "revision",
            self.metadata,
            sa.Column("topic", sa.String(32), primary_key=True),
            sa.Column("token", sa.BigInteger, nullable=False),
        )
        self.collection = sa.Table(
            "collection",
            self.metadata,
            sa.Column("id", _Id, primary_key=True),
            sa.Column("name", sa.String(255), nullable=False, unique=True),
            sa.Column("type", sa.String(16), nullable=False),
            sa.Column("doc", sa.Text, nullable=False),
        )
        self.chain = sa.Table(
            "collection_chain",
            self.metadata,
            sa.Column("parent_id", _Id, sa.ForeignKey("collection.id"), primary_key=True),
            sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("child_id", _Id, sa.ForeignKey("collection.id"), nullable=False),
        )
        # Not "dimension_group": that is the table of the dimension called group.
        self.group = sa.Table(
            "data_id_group",
            self.metadata,
            sa.Column("id", _Id, primary_key=True),
            sa.Column("names", sa.Text, nullable=False, unique=True),
        )
        self.dataset_type = sa.Table(
            "dataset_type",
            self.metadata,
            sa.Column("id", _Id, primary_key=True),
            sa.Column("name", sa.String(128), nullable=False, unique=True),
            sa.Column("group_id", _Id, sa.ForeignKey("data_id_group.id"), nullable=False),
            sa.Column("storage_class", sa.String(64), nullable=False),
            sa.Column("is_calibration", sa.Boolean, nullable=False),
        )

    def _make_datasets(self) -> None:
        self.dataset = sa.Table(
            "dataset",
            self.metadata,
            sa.Column("id", _Id, primary_key=True, autoincrement=False),
            sa.Column("uuid", sa.LargeBinary(16), nullable=False, unique=True),
            sa.Column("dataset_type_id", _Id, sa.ForeignKey("dataset_type.id"), nullable=False),
            sa.Column("run_id", _Id, sa.ForeignKey("collection.id"), nullable=False),
            sa.Column("data_id_id", _Id, nullable=False),
            sa.Column("size_bytes", sa.BigInteger, nullable=False),
            sa.Column("hash", sa.LargeBinary(16), nullable=False),
            sa.Column("formatter", sa.String(64), nullable=False),
            sa.Column("path", sa.Text, nullable=False),
            sa.Column("ingest_ns", sa.BigInteger, nullable=False),
        )
        # RUN and TAGGED alike; that a RUN holds one dataset per type and data id is its primary key.
        self.membership = sa.Table(
            "membership",
            self.metadata,
            sa.Column("collection_id", _Id, sa.ForeignKey("collection.id"), primary_key=True, autoincrement=False),
            sa.Column("dataset_type_id", _Id, primary_key=True, autoincrement=False),
            sa.Column("data_id_id", _Id, primary_key=True, autoincrement=False),
            sa.Column("dataset_id", _Id, sa.ForeignKey("dataset.id"), nullable=False, index=True),
            # Which collections of a long chain have a data id: one step, not one for each collection.
            sa.Index("membership_data_id", "dataset_type_id", "data_id_id", "collection_id", "dataset_id"),
            sqlite_with_rowid=False,
        )
        self.calibration = sa.Table(
            "calibration",
            self.metadata,
            sa.Column("id", _Id, primary_key=True),
            sa.Column("collection_id", _Id, sa.ForeignKey("collection.id"), nullable=False),
            sa.Column("dataset_type_id", _Id, nullable=False),
            sa.Column("data_id_id", _Id, nullable=False),
            sa.Column("dataset_id", _Id, sa.ForeignKey("dataset.id"), nullable=False, index=True),
            sa.Column("begin_ns", sa.BigInteger, nullable=False),
            sa.Column("end_ns", sa.BigInteger, nullable=False),
            sa.Index("calibration_validity", "collection_id", "dataset_type_id", "data_id_id", "begin_ns"),
        )
        # Datasets whose file was ingested in place, or is that of others of the same import.
        self.file_mark = sa.Table(
            "file_mark",
            self.metadata,
            sa.Column(
                "dataset_id",
                _Id,
                sa.ForeignKey("dataset.id", ondelete="CASCADE"),
                primary_key=True,
                autoincrement=False,
            ),
            sa.Column("path", sa.Text, nullable=False, index=True),
            sa.Column("in_place", sa.Boolean, nullable=False),
        )
        # Files to be deleted: no other may have such a name before it is gone.
        self.removed_file = sa.Table(
            "removed_file",
            self.metadata,
            sa.Column("path", sa.Text, primary_key=True),
            sa.Column("token", sa.String(64), nullable=False),
            sa.Column("since_ns", sa.BigInteger, nullable=False),
            sqlite_with_rowid=False,
        )
        # Which types a collection may hold; rows are only ever added, so it may name too many.
        self.summary = sa.Table(
            "collection_summary",
            self.metadata,
            sa.Column("collection_id", _Id, sa.ForeignKey("collection.id"), primary_key=True, autoincrement=False),
            sa.Column("dataset_type_id", _Id, sa.ForeignKey("dataset_type.id"), primary_key=True, autoincrement=False),
        )

    # -- dimension records -------------------------------------------------------------------------

    def dimension_column(self, name: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[Any]:
        """Make a column that holds values of a dimension."""
        kind = column_type(self.universe[name].keys[0])
        return sa.Column(name, kind, nullable=nullable, primary_key=primary_key, autoincrement=False)

    def _make_element(self, element: DimensionElement) -> sa.Table:
        required = self.universe.required(element.name)
        parts: list[sa.schema.SchemaItem] = [self.dimension_column(name, primary_key=True) for name in required]
        parts += [sa.Column(key.name, column_type(key), nullable=False) for key in element.keys[1:]]
        parts += [self.dimension_column(name, nullable=True) for name in element.implies]
        parts += [sa.Column(column.name, column_type(column), nullable=column.nullable) for column in element.metadata]
        if element.temporal:
            parts += [sa.Column("timespan_begin", sa.BigInteger), sa.Column("timespan_end", sa.BigInteger)]
            parts.append(sa.Index(f"{element.name}_timespan", "timespan_begin", "timespan_end"))
        if element.spatial:
            parts.append(sa.Column("region", sa.LargeBinary))
        parents = [name for name in required if name != element.name]
        parts += [sa.UniqueConstraint(*parents, key.name) for key in element.keys[1:]]
        for name in (*element.requires, *element.implies):
            parts.append(self._foreign_key(name))
        for name in element.implies:
            parts.append(sa.Index(f"{element.name}_{name}", *self.element_key(name)))
        return sa.Table(f"dimension_{element.name}", self.metadata, *parts)

    def _make_sky_overlap(self, name: str) -> sa.Table:
        key = self.element_key(name)
        return sa.Table(
            f"sky_overlap_{name}",
            self.metadata,
            sa.Column("pixel", sa.BigInteger, primary_key=True, autoincrement=False),
            *[self.dimension_column(other, primary_key=True) for other in key],
            self._foreign_key(name),
            sa.Index(f"sky_overlap_{name}_key", *key),
            sqlite_with_rowid=False,
        )

    def element_key(self, name: str) -> tuple[str, ...]:
        """Names of the dimensions that identify a record of an element."""
        return self.universe.required(name)

    def _foreign_key(self, name: str) -> sa.ForeignKeyConstraint:
        key = self.element_key(name)
        return sa.ForeignKeyConstraint(key, [f"dimension_{name}.{column}" for column in key])

    # -- data ids ----------------------------------------------------------------------------------

    def data_ids(self, group_id: int, group: DimensionGroup) -> sa.Table:
        """Table of the data ids of a dimension group."""
        # By both: the id of a group whose making was rolled back is given to another one.
        found = self._data_ids.get((group_id, group))
        if found is None:
            # The unique index is in the order of the mount's directories, which it then lists.
            order = self.universe.path_order(group)
            below = {other for name in group.required for other in self.universe[name].requires}
            # What another dimension implies is no column here, so that nothing can refer by it.
            leaves = [
                name
                for name in group.required
                if name not in below and name in self.elements and set(self.element_key(name)) <= set(group.required)
            ]
            # Shared between threads: a table made twice would be an error of its MetaData.
            found = self._data_ids.setdefault(
                (group_id, group),
                sa.Table(
                    f"data_id_{group_id}",
                    sa.MetaData(),
                    sa.Column("id", _Id, primary_key=True),
                    *[self.dimension_column(name) for name in group.required],
                    *([sa.UniqueConstraint(*order)] if order else []),
                    *[self._foreign_key_to(name) for name in leaves],
                    # People name a visit and leave the instrument out.
                    *[sa.Index(f"data_id_{group_id}_{name}", name) for name in order[1:]],
                ),
            )
        return found

    def _foreign_key_to(self, name: str) -> sa.ForeignKeyConstraint:
        key = self.element_key(name)
        return sa.ForeignKeyConstraint(key, [self.elements[name].c[column] for column in key])

    @property
    def dataset_id_column(self) -> sa.ColumnElement[Any]:
        """The column of `dataset` with the ids that people know, of the kind that `dataset_id` gives."""
        return self.dataset.c.uuid

    def dataset_id(self, raw: bytes) -> Any:
        """Give a dataset's id as `dataset_id_column` has it."""
        return raw

    # -- declared metadata -------------------------------------------------------------------------

    def declared(self, type_id: int, definition: DatasetType) -> sa.Table:
        """Table of the metadata that a dataset type declares; a row goes with its dataset."""
        found = self._declared.get((type_id, definition))
        if found is None:
            name = f"metadata_{type_id}"
            found = self._declared.setdefault(
                (type_id, definition),
                sa.Table(
                    name,
                    sa.MetaData(),
                    sa.Column(
                        "dataset_id",
                        _Id,
                        sa.ForeignKey(self.dataset.c.id, ondelete="CASCADE"),
                        primary_key=True,
                        autoincrement=False,
                    ),
                    *[sa.Column(entry.name, _DECLARED[entry.type]()) for entry in definition.metadata],
                    *[sa.Index(f"{name}_{entry.name}", entry.name) for entry in definition.metadata],
                ),
            )
        return found

    # -- members of collections --------------------------------------------------------------------

    def members(
        self, type_id: int, group_id: int, group: DimensionGroup, plain: Sequence[int], timed: Sequence[int]
    ) -> Members:
        """Members of collections, of one dataset type.

        Parameters
        ----------
        type_id, group_id, group : int, int, DimensionGroup
            Of the dataset type.
        plain, timed : sequence of int
            Collections: RUN and TAGGED ones, and CALIBRATION ones.
        """
        parts: list[sa.Select[Any]] = []
        for link, ids in ((self.membership, plain), (self.calibration, timed)):
            if not ids and (timed or link is not self.membership):
                continue
            columns: list[sa.ColumnElement[Any]] = [link.c.collection_id, link.c.data_id_id, link.c.dataset_id]
            if timed:
                absent = sa.null().cast(sa.BigInteger)
                columns += [link.c[name] if name in link.c else absent.label(name) for name in ("begin_ns", "end_ns")]
            parts.append(sa.select(*columns).where(link.c.dataset_type_id == type_id, link.c.collection_id.in_(ids)))
        members = (parts[0] if len(parts) == 1 else sa.union_all(*parts)).subquery("members")
        table = self.data_ids(group_id, group)
        return Members(
            source=sa.join(members, table, members.c.data_id_id == table.c.id),
            collection=members.c.collection_id,
            dataset=members.c.dataset_id,
            values={name: table.c[name] for name in group.required},
            identity=[members.c.data_id_id],
            span=(members.c.begin_ns, members.c.end_ns) if timed else None,
        )

    # -- temporary tables --------------------------------------------------------------------------

    def staged_data_ids(self, group_id: int, group: DimensionGroup) -> sa.Table:
        """Temporary table of values of a group's required dimensions, numbered from 0."""
        return self.staging((group_id, group), [self.dimension_column(name) for name in group.required])

    def staging(self, key: tuple[int, DimensionGroup] | str, columns: Iterable[sa.Column[Any]]) -> sa.Table:
        """Temporary table known by ``key``, of rows numbered by their ``position``."""
        found = self._staged.get(key)
        if found is None:
            name = key if isinstance(key, str) else f"data_id_{key[0]}"
            table = sa.Table(
                f"staged_{name}",
                sa.MetaData(),
                sa.Column("position", _Id, primary_key=True),
                *columns,
                prefixes=["TEMPORARY"],
                postgresql_on_commit="DROP",
            )
            found = self._staged.setdefault(key, table)
        return found
