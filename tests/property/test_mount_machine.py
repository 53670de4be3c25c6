"""The mounted tree against a model of it, through the kernel, while collections change."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from tests.unit.fusefs.fake import FakeDaemon, FakeDataset
from tests.unit.fusefs.mounted import can_mount, mounted, public_place, wait_until

pytestmark = [pytest.mark.root, can_mount]

SHOWS_S = 5.0
"""The mount believes collections for ten times as long as it took to ask; with a margin for a busy machine."""
# Names that are collections, dataset types, values and directories on the way to others, in all combinations.
RUNS = ["a", "a/t", "a/t/u/r", "b"]
TAGS = ["b/u", "c"]
CHAINS = ["b/c", "d", "d/t/u"]
"""A chain may have those before it as children."""
BY_ID = ".by-id"

datasets = st.tuples(
    st.sampled_from(RUNS),
    st.one_of(
        st.tuples(st.just("t"), st.tuples(st.integers(1, 3))),
        st.tuples(st.just("u"), st.tuples(st.sampled_from(["r", "t"]), st.integers(1, 2))),
    ),
)
_numbers = itertools.count()
T = TypeVar("T")


class File(NamedTuple):
    """A file of the model."""

    dataset: FakeDataset
    content: bytes

    @property
    def parts(self) -> tuple[str, ...]:
        """Where it is below a collection."""
        kind, values = self.dataset.type.name, [str(value) for value in self.dataset.values]
        return kind, *values[:-1], "_".join((kind, *values)) + ".dat"


class Tree(NamedTuple):
    """Paths below a repository: those of files, and those of directories."""

    files: dict[str, File]
    directories: set[str]


class MountMachine(RuleBasedStateMachine):
    """One repository of a mount, and what must be in it."""

    def __init__(self, daemon: FakeDaemon, mount: Path) -> None:
        super().__init__()
        name = f"r{next(_numbers)}"
        self.repository = daemon.repository(name)
        self.root = mount / name
        self.runs: dict[str, dict[tuple[Any, ...], File]] = {}
        self.tags: dict[str, list[File]] = {}
        self.chains: dict[str, tuple[str, ...]] = {}
        self.removed: list[tuple[str, File]] = []
        self.opened: list[tuple[int, File]] = []

    def teardown(self) -> None:
        for fd, _ in self.opened:
            os.close(fd)

    # -- the model -------------------------------------------------------------------------------------

    def members(self, collection: str) -> dict[tuple[Any, ...], File]:
        if collection in self.runs:
            return self.runs[collection]
        if collection in self.tags:
            return {(one.dataset.type.name, *one.dataset.values): one for one in self.tags[collection]}
        found: dict[tuple[Any, ...], File] = {}
        for child in self.chains[collection]:
            for key, file in self.members(child).items():
                found.setdefault(key, file)
        return found

    def tree(self) -> Tree:
        files: dict[str, File] = {}
        directories: set[str] = set()
        for collection in sorted([*self.runs, *self.tags, *self.chains], key=len):
            paths = {collection} | {"/".join((collection, *file.parts)) for file in self.members(collection).values()}
            for file in self.members(collection).values():
                files.setdefault("/".join((collection, *file.parts)), file)
            for path in paths:
                parts = path.split("/")
                directories |= {"/".join(parts[:depth]) for depth in range(1, len(parts))}
            directories.add(collection)
        return Tree(files, directories - files.keys())

    def all_files(self) -> list[File]:
        return [file for files in self.runs.values() for file in files.values()]

    # -- changes -----------------------------------------------------------------------------------------

    @rule(where=datasets, content=st.binary(max_size=20), partial=st.booleans())
    def add(self, where: tuple[str, tuple[str, tuple[Any, ...]]], content: bytes, partial: bool) -> None:
        run, (kind, values) = where
        key = (kind, *values)
        was_there = any(
            run == name and (one.dataset.type.name, *one.dataset.values) == key for name, one in self.removed
        )
        if was_there or key in self.runs.get(run, {}):
            return
        dimensions = ("band", "visit")[-len(values) :]
        dataset = self.repository.add(run, kind, content, partial=partial, **dict(zip(dimensions, values, strict=True)))
        self.runs.setdefault(run, {})[key] = File(dataset, content)

    @rule(name=st.sampled_from(RUNS))
    def register(self, name: str) -> None:
        if name not in self.runs:
            self.repository.run(name)
            self.runs[name] = {}

    @rule(name=st.sampled_from(TAGS), data=st.data())
    def tag(self, name: str, data: st.DataObject) -> None:
        files = data.draw(some_of(self.all_files(), lambda file: (file.dataset.type.name, file.dataset.values)))
        self.repository.tagged(name, [file.dataset for file in files])
        self.tags[name] = files

    @rule(name=st.sampled_from(CHAINS), data=st.data())
    def chain(self, name: str, data: st.DataObject) -> None:
        before = [*self.runs, *self.tags, *(one for one in CHAINS[: CHAINS.index(name)] if one in self.chains)]
        children = tuple(data.draw(some_of(before, lambda child: child)))
        self.repository.chain(name, *children)
        self.chains[name] = children

    @precondition(all_files)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(self.all_files()))
        self.repository.remove(file.dataset)
        del self.runs[file.dataset.run][(file.dataset.type.name, *file.dataset.values)]
        self.tags = {name: [one for one in files if one is not file] for name, files in self.tags.items()}
        self.removed.append((file.dataset.run, file))

    # -- looks -----------------------------------------------------------------------------------------------

    @rule()
    def everything_is_listed(self) -> None:
        expected = self.tree()
        soon(lambda: walk(self.root) == ({*expected.files}, expected.directories), f"{expected}")

    @rule(data=st.data())
    def a_name_is_found(self, data: st.DataObject) -> None:
        """By itself, not by a listing; also names that are not there."""
        tree = self.tree()
        names = sorted({*tree.files, *tree.directories, *RUNS, *TAGS, *CHAINS})
        names += ["a/u/t", "a/t/t", "c/t/t_1.dat", "d/u/r/u_r_2.dat", "b/c/t/t_2.dat", "nowhere/t"]
        path = data.draw(st.sampled_from(names))
        if path in tree.files:
            size = len(tree.files[path].content)
            soon(lambda: (self.root / path).is_file() and (self.root / path).stat().st_size == size, path)
        elif path in tree.directories:
            soon((self.root / path).is_dir, path)
        else:
            # What was in a run the kernel may believe for a minute, with the directories above it.
            gone = {"/".join((run, *file.parts)) for run, file in self.removed}
            if not any(one == path or one.startswith(path + "/") for one in gone):
                soon(lambda: not (self.root / path).exists(), path)

    @precondition(all_files)
    @rule(data=st.data())
    def a_file_has_its_content_by_all_names(self, data: st.DataObject) -> None:
        tree = self.tree()
        file = tree.files[data.draw(st.sampled_from(sorted(tree.files)))]
        paths = [self.root / path for path, one in tree.files.items() if one is file]
        paths.append(self.root / BY_ID / str(file.dataset.id) / file.parts[-1])
        for path in paths:
            soon(lambda path=path: path.read_bytes() == file.content, str(path))
        assert len({path.stat().st_ino for path in paths}) == 1

    @precondition(lambda self: self.all_files() and len(self.opened) < 20)
    @rule(data=st.data())
    def a_file_is_kept_open(self, data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(self.all_files()))
        path = self.root / file.dataset.run / Path(*file.parts)
        soon(path.exists, str(path))
        self.opened.append((os.open(path, os.O_RDONLY), file))

    @precondition(lambda self: self.opened)
    @rule(data=st.data())
    def what_is_open_keeps_its_content(self, data: st.DataObject) -> None:
        """Also if it was removed since, and in no directory any more."""
        fd, file = data.draw(st.sampled_from(self.opened))
        assert os.pread(fd, 100, 0) == file.content

    @precondition(lambda self: self.removed)
    @rule(data=st.data())
    def what_was_removed_cannot_be_opened(self, data: st.DataObject) -> None:
        run, file = data.draw(st.sampled_from(self.removed))
        for path in (self.root / run / Path(*file.parts), self.root / BY_ID / str(file.dataset.id) / file.parts[-1]):
            with pytest.raises(FileNotFoundError):
                os.open(path, os.O_RDONLY)


def some_of(values: Sequence[T], key: Callable[[T], Any]) -> st.SearchStrategy[list[T]]:
    """Up to four of some values, perhaps none, in any order, each key once."""
    return st.lists(st.sampled_from(values), max_size=4, unique_by=key) if values else st.just([])


def soon(condition: Callable[[], bool], what: str) -> None:
    """Expect something within a short time; errors on the way are of what has just changed."""

    def holds() -> bool:
        try:
            return condition()
        except OSError:
            return False

    wait_until(holds, timeout_s=SHOWS_S, what=what)


def walk(root: Path) -> tuple[set[str], set[str]]:
    """Files and directories below a repository, as listings and their types tell."""
    files: set[str] = set()
    directories: set[str] = set()
    todo = [""]
    while todo:
        parent = todo.pop()
        with os.scandir(root / parent) as entries:
            for entry in entries:
                path = f"{parent}/{entry.name}".lstrip("/")
                if path == BY_ID:
                    continue
                assert path not in files | directories
                if entry.is_dir(follow_symlinks=False):
                    directories.add(path)
                    todo.append(path)
                else:
                    files.add(path)
    return files, directories


@pytest.fixture(params=[(), ("--allow-other", "--no-passthrough")], ids=["own", "many-users"])
def node(request: pytest.FixtureRequest) -> Iterator[tuple[FakeDaemon, Path]]:
    with public_place() as place:
        daemon = FakeDaemon(place)
        options = ("--collections-ttl", "0", *request.param)
        with daemon.running_in_thread(), mounted(daemon.socket_path, place, *options) as mount:
            yield daemon, mount.point
            assert "Traceback" not in mount.log_text()


def test_the_tree_is_as_the_model_while_collections_change(node: tuple[FakeDaemon, Path]) -> None:
    run_state_machine_as_test(
        lambda: MountMachine(*node), settings=settings(max_examples=40, stateful_step_count=40, deadline=None)
    )
