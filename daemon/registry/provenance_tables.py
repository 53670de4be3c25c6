"""The tables of provenance (docs/decisions/0016-provenance.md).

They are made when the first quantum is recorded, so that a registry that has none needs no change.
"""

from __future__ import annotations

import sqlalchemy as sa

from pantry.daemon.registry.engine import Database, Session

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MAX_TASK = 128


class ProvenanceTables:
    """Quanta, and the datasets that go in and out.

    Attributes
    ----------
    dataset : Table
        Every dataset that a quantum names, by its id; the registry may know it or not.
    quantum, input, output : Table
        The quanta, and what goes in and out; a dataset comes out of one quantum only.
    all : list of Table
        All of them, each after those it refers to.
    staged_quanta, staged_datasets, staged_inputs, staged_outputs : Table
        Temporary tables of what is being recorded.
    staged_relatives, found_relatives : Table
        Temporary tables of what a walk has reached.
    """

    def __init__(self) -> None:
        metadata = sa.MetaData()
        self.dataset = sa.Table(
            "provenance_dataset",
            metadata,
            sa.Column("id", _Id, primary_key=True, autoincrement=False),
            sa.Column("uuid", sa.LargeBinary(16), nullable=False, unique=True),
        )
        self.quantum = sa.Table(
            "quantum",
            metadata,
            sa.Column("id", _Id, primary_key=True, autoincrement=False),
            sa.Column("uuid", sa.LargeBinary(16), nullable=False, unique=True),
            sa.Column("task", sa.String(MAX_TASK), nullable=False),
            # Its name, no key: what was made there stays true when the collection is gone.
            sa.Column("run", sa.String(255), nullable=False),
            sa.Column("data_id", sa.Text, nullable=False),
            sa.Column("status", sa.String(16), nullable=False),
            sa.Column("begin_ns", sa.BigInteger),
            sa.Column("end_ns", sa.BigInteger),
            sa.Column("environment", sa.Text, nullable=False),
            sa.Column("predicted_known", sa.Boolean, nullable=False),
            sa.Column("actual_known", sa.Boolean, nullable=False),
        )
        self.input = sa.Table(
            "quantum_input",
            metadata,
            sa.Column("quantum_id", _Id, sa.ForeignKey("quantum.id"), primary_key=True, autoincrement=False),
            sa.Column("dataset_id", _Id, sa.ForeignKey("provenance_dataset.id"), primary_key=True, autoincrement=False),
            sa.Column("predicted", sa.Boolean, nullable=False),
            sa.Column("actual", sa.Boolean, nullable=False),
            sa.Index("quantum_input_dataset", "dataset_id", "quantum_id"),
            sqlite_with_rowid=False,
        )
        self.output = sa.Table(
            "quantum_output",
            metadata,
            sa.Column("dataset_id", _Id, sa.ForeignKey("provenance_dataset.id"), primary_key=True, autoincrement=False),
            sa.Column("quantum_id", _Id, sa.ForeignKey("quantum.id"), nullable=False),
            sa.Index("quantum_output_quantum", "quantum_id", "dataset_id"),
        )
        self.all = list(metadata.sorted_tables)
        uuid = sa.LargeBinary(16)
        self.staged_quanta = _staging("quantum", sa.Column("uuid", uuid, nullable=False))
        self.staged_datasets = _staging("provenance_dataset", sa.Column("uuid", uuid, nullable=False))
        self.staged_inputs = _staging(
            "quantum_input",
            sa.Column("quantum_id", _Id, nullable=False),
            sa.Column("dataset_id", _Id, nullable=False),
            sa.Column("predicted", sa.Boolean, nullable=False),
            sa.Column("actual", sa.Boolean, nullable=False),
            # Whether the quantum's predictions were recorded before, and are fixed.
            sa.Column("fixed", sa.Boolean, nullable=False),
        )
        self.staged_outputs = _staging(
            "quantum_output",
            sa.Column("dataset_id", _Id, nullable=False),
            sa.Column("quantum_id", _Id, nullable=False),
        )
        self.staged_starts = _staging("start", sa.Column("dataset_id", _Id, nullable=False))
        self.staged_relatives = _staging("relative", sa.Column("dataset_id", _Id, nullable=False))
        # Type 0: those that the registry has only the ids of.
        self.found_relatives = sa.Table(
            "found_relative",
            sa.MetaData(),
            sa.Column("dataset_type_id", _Id, primary_key=True, autoincrement=False),
            sa.Column("position", _Id, primary_key=True, autoincrement=False),
            sa.Column("uuid", uuid, nullable=False),
            sa.Column("run_id", _Id),
            sa.Column("data_id_id", _Id),
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DROP",
        )

    def exist(self, session: Session) -> bool:
        """Whether the registry has them."""
        return session.database.has_table(session, self.quantum.name)

    def stage(self, session: Session, table: sa.Table, rows: list[tuple[object, ...]]) -> None:
        """Write rows into an empty temporary table, numbered from 0."""
        session.create_temporary(table)
        session.run_many(session.database.prepare_insert(table), [(number, *row) for number, row in enumerate(rows)])


def last_id(database: Database, session: Session, table: sa.Table) -> int:
    """Return the highest primary key; the writer is alone (`Database.writing`), so that the next ones are free."""
    statement = database.prepare(("last", table), lambda: sa.select(sa.func.max(table.c.id)))
    return int(session.rows(statement)[0][0] or 0)


def _staging(name: str, *columns: sa.Column[object]) -> sa.Table:
    return sa.Table(
        f"staged_{name}",
        sa.MetaData(),
        sa.Column("position", _Id, primary_key=True, autoincrement=False),
        *columns,
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )
