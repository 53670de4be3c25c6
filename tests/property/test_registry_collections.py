"""Collections and their members against a model of dicts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from uuid import UUID, uuid4

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from tests.unit.registry.world import CAMERA, EXPOSURES, create, fill, rows_of, sqlite_url, stored

from pantry.daemon.registry import Registry
from pantry.errors import CollectionTypeError, ConflictError, DatasetExistsError, DatasetNotFoundError
from pantry.model.collections import CollectionType
from pantry.wire.operations.registry import FindDataset

DETECTORS = (0, 1)
RUNS = ("run/a", "run/b", "run/c")
TAGS = ("tag/x", "tag/y")
CHAINS = ("chain/1", "chain/2", "chain/3")
Key = tuple[int, int]
KEYS = st.tuples(st.sampled_from(DETECTORS), st.sampled_from(EXPOSURES[:2]))


class CollectionsMachine(RuleBasedStateMachine):
    """Two registries over one file take turns, so that each must see what the other did."""

    datasets = Bundle("datasets")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="pantry-registry-"))
        first = create(sqlite_url(self.directory))
        fill(first)
        for tag in TAGS:
            first.register_collection(tag, CollectionType.TAGGED)
        for chain in CHAINS:
            first.register_collection(chain, CollectionType.CHAINED)
        for run in RUNS:
            first.register_collection(run, CollectionType.RUN)
        self.registries = [first, Registry.open(sqlite_url(self.directory))]
        self.turn = 0
        self.members: dict[str, dict[Key, UUID]] = {name: {} for name in RUNS + TAGS}
        self.children: dict[str, list[str]] = {name: [] for name in CHAINS}
        self.known: dict[UUID, Key] = {}

    def teardown(self) -> None:
        for registry in self.registries:
            registry.close()
        shutil.rmtree(self.directory)

    @property
    def registry(self) -> Registry:
        self.turn += 1
        return self.registries[self.turn % 2]

    @rule(target=datasets, run=st.sampled_from(RUNS), keys=st.lists(KEYS, min_size=1, max_size=6))
    def insert(self, run: str, keys: list[Key]) -> object:
        new = [(uuid4(), (CAMERA, *key), stored(f"{run}/{key}")) for key in keys]
        if len(set(keys)) < len(keys) or any(key in self.members[run] for key in keys):
            try:
                self.registry.insert_datasets(run, "raw", new)
            except DatasetExistsError:
                return multiple()
            raise AssertionError("a dataset was overwritten")
        self.registry.insert_datasets(run, "raw", new)
        for (id_, _, _), key in zip(new, keys, strict=True):
            self.members[run][key] = id_
            self.known[id_] = key
        return multiple(*[id_ for id_, _, _ in new])

    @rule(tag=st.sampled_from(TAGS), ids=st.lists(datasets, min_size=1, max_size=4, unique=True))
    def associate(self, tag: str, ids: list[UUID]) -> None:
        gone = any(id_ not in self.known for id_ in ids)
        keys = [self.known.get(id_) for id_ in ids]
        if gone or len(set(keys)) < len(keys):
            try:
                self.registry.associate(tag, ids)
            except (ConflictError, DatasetNotFoundError):
                return
            raise AssertionError("an ambiguous or missing dataset was associated")
        assert self.registry.associate(tag, ids) == len(ids)
        self.members[tag].update({self.known[id_]: id_ for id_ in ids})

    @rule(tag=st.sampled_from(TAGS), id_=datasets)
    def disassociate(self, tag: str, id_: UUID) -> None:
        if id_ in self.known:
            there = id_ in self.members[tag].values()
            assert self.registry.disassociate(tag, [id_]) == there
            if there:
                del self.members[tag][self.known[id_]]

    @rule(ids=st.lists(datasets, min_size=1, max_size=3, unique=True))
    def delete(self, ids: list[UUID]) -> None:
        there = [id_ for id_ in ids if id_ in self.known]
        assert len(self.registry.delete_datasets(ids)) == len(there)
        for id_ in there:
            key = self.known.pop(id_)
            for members in self.members.values():
                if members.get(key) == id_:
                    del members[key]

    @rule(
        chain=st.sampled_from(CHAINS), children=st.lists(st.sampled_from(RUNS + TAGS + CHAINS), max_size=4, unique=True)
    )
    def chain(self, chain: str, children: list[str]) -> None:
        if any(chain in self.reachable(child) for child in children):
            try:
                self.registry.redefine_chain(chain, children)
            except CollectionTypeError:
                return
            raise AssertionError("a chain holds itself")
        self.registry.redefine_chain(chain, children)
        self.children[chain] = children

    def reachable(self, name: str) -> set[str]:
        return {name}.union(*(self.reachable(child) for child in self.children.get(name, ())))

    def order(self, name: str) -> list[str]:
        if name not in self.children:
            return [name]
        return list(dict.fromkeys(member for child in self.children[name] for member in self.order(child)))

    @rule(name=st.sampled_from(RUNS + TAGS + CHAINS), key=KEYS)
    def find(self, name: str, key: Key) -> None:
        data_id: dict[str, int | str] = {"instrument": CAMERA, "detector": key[0], "exposure": key[1]}
        query = FindDataset(repository="r", dataset_type="raw", data_id=data_id, collections=(name,))
        ref = self.registry.find_dataset(query).ref
        wanted = next((self.members[one][key] for one in self.order(name) if key in self.members[one]), None)
        assert (ref.id if ref else None) == wanted

    @rule(name=st.sampled_from(CHAINS))
    def query(self, name: str) -> None:
        wanted: dict[Key, UUID] = {}
        every: set[UUID] = set()
        for one in reversed(self.order(name)):
            wanted.update(self.members[one])
            every.update(self.members[one].values())
        first = rows_of(self.registry, collections=(name,))
        assert {(row["detector"], row["exposure"]): row["id"] for row in first} == wanted
        assert len(first) == len(wanted)
        everything = [row["id"] for row in rows_of(self.registry, collections=(name,), find_first=False)]
        assert sorted(everything, key=str) == sorted(every, key=str)

    @invariant()
    def runs_hold_what_they_hold(self) -> None:
        for name in (*RUNS, *TAGS):
            found = {
                (row["detector"], row["exposure"]): row["id"] for row in rows_of(self.registry, collections=(name,))
            }
            assert found == self.members[name]


TestCollections = CollectionsMachine.TestCase
TestCollections.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
