"""The view without FUSE, against the fake daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
import trio
from tests.unit.fusefs.fake import BATCH, FakeDaemon

from pantry.errors import DaemonUnavailableError, NotFoundError, PermissionDeniedError
from pantry.fusefs.directories import DirectoryReader
from pantry.fusefs.link import DaemonLink
from pantry.fusefs.names import BY_ID
from pantry.fusefs.tree import FOR_EVER_S, Directory, Entry, File, IdDirectory, Node, Root, Tree
from pantry.wire.envelope import Behalf

ANNA = Behalf(1000, 1000, (100,))


def with_tree(daemon: FakeDaemon, scenario: Callable[[Tree], Awaitable[None]], **options: object) -> None:
    async def run() -> None:
        link = DaemonLink(daemon.socket_path)
        with trio.fail_after(20):
            async with daemon.serving(), link.running():
                await scenario(Tree(link, **options))  # type: ignore[arg-type]

    trio.run(run)


async def walk(tree: Tree, *names: str) -> Entry:
    node: Node = Root()
    entry = Entry("", node, 0)
    for name in names:
        entry = await tree.lookup(entry.node, name, None)
    return entry


async def names(tree: Tree, node: Node, user: Behalf | None = None) -> list[str]:
    return [entry.name async for page in tree.pages(node, user) for entry in page]


async def everything(tree: Tree) -> dict[str, Node]:
    """Walk the tree by listings, and check that look-ups agree."""
    found: dict[str, Node] = {}

    async def down(node: Node, path: str) -> None:
        async for page in tree.pages(node, None):
            for entry in page:
                found[f"{path}/{entry.name}"] = entry.node
                assert (await tree.lookup(node, entry.name, None)).node == entry.node
                if not isinstance(entry.node, File):
                    await down(entry.node, f"{path}/{entry.name}")

    await down(Root(), "")
    return found


def test_a_repository_as_files(daemon: FakeDaemon) -> None:
    repository = daemon.repository("dp1")
    raw = repository.add("LSST/raw/all", "raw", b"12345", extension=".fits", instrument="L", exposure=7, detector=3)
    sky = repository.add("u/anna/run", "skyMap", b"1", extension=".pickle", skymap="a/b")
    repository.tagged("best", [raw])
    repository.chain("everything", "u/anna/run", "best")
    repository.calibration("calib")

    async def scenario(tree: Tree) -> None:
        found = await everything(tree)
        expected = File("dp1", raw.id, 5, raw.stored.ingest_ns, raw.hash)
        for collection in ("LSST/raw/all", "best", "everything"):
            assert found[f"/dp1/{collection}/raw/L/7/raw_L_7_3.fits"] == expected
        assert found["/dp1/everything/skyMap/skyMap_a%2Fb.pickle"] == File(
            "dp1", sky.id, 1, sky.stored.ingest_ns, sky.hash
        )
        assert found["/dp1/calib"] == Directory("dp1", ("calib",))
        assert not [path for path in found if path.startswith("/dp1/calib/")]
        entry = await walk(tree, "dp1", BY_ID, str(raw.id), "raw_L_7_3.fits")
        assert entry == Entry("raw_L_7_3.fits", expected, FOR_EVER_S)
        assert await names(tree, IdDirectory("dp1", raw.id)) == ["raw_L_7_3.fits"]
        assert await names(tree, IdDirectory("dp1")) == []

    with_tree(daemon, scenario)
    assert daemon.calls["OpenDataset"] == 0


@pytest.mark.parametrize(
    "path",
    [
        ("nothing",),
        ("dp1", "nothing"),
        ("dp1", "run", "nothing"),
        ("dp1", "run", "t", "99"),
        ("dp1", "run", "t", "1", "t_1_9.dat"),
        ("dp1", BY_ID, "nothing"),
        ("dp1", BY_ID, str(uuid4())),
    ],
)
def test_what_is_not_there_is_not_found(daemon: FakeDaemon, path: tuple[str, ...]) -> None:
    daemon.repository("dp1").add("run", "t", b"", visit=1, detector=2)

    async def scenario(tree: Tree) -> None:
        with pytest.raises(NotFoundError):
            await walk(tree, *path)
        assert isinstance((await walk(tree, "dp1", "run", "t", "1", "t_1_2.dat")).node, File)

    with_tree(daemon, scenario)


def test_the_dataset_under_an_id_has_only_its_own_name(daemon: FakeDaemon) -> None:
    dataset = daemon.repository("dp1").add("run", "t", b"", visit=1)

    async def scenario(tree: Tree) -> None:
        parent = (await walk(tree, "dp1", BY_ID, str(dataset.id))).node
        assert (await tree.lookup(parent, "t_1.dat", None)).node == (
            await walk(tree, "dp1", "run", "t", "t_1.dat")
        ).node
        with pytest.raises(NotFoundError):
            await tree.lookup(parent, "t_2.dat", None)

    with_tree(daemon, scenario)


def test_an_ambiguous_directory_shows_all_that_it_means(daemon: FakeDaemon) -> None:
    """``u/a/b`` is a dataset type of ``u/a`` and a collection; a file is never hidden by a collection."""
    repository = daemon.repository("dp1")
    one = repository.add("u/a", "b", b"1", visit=1, detector=1)
    two = repository.add("u/a/b", "c", b"2", visit=2)
    three = repository.add("u/a/b/1", "d", b"3", visit=3)
    repository.run("u/a/b/1/b_1_1.dat")

    async def scenario(tree: Tree) -> None:
        assert sorted(await names(tree, Directory("dp1", ("u", "a", "b")))) == ["1", "c"]
        assert sorted(await names(tree, Directory("dp1", ("u", "a", "b", "1")))) == ["b_1_1.dat", "d"]
        files = {node.id: path for path, node in (await everything(tree)).items() if isinstance(node, File)}
        assert files == {
            one.id: "/dp1/u/a/b/1/b_1_1.dat", two.id: "/dp1/u/a/b/c/c_2.dat", three.id: "/dp1/u/a/b/1/d/d_3.dat",
        }  # fmt: skip

    with_tree(daemon, scenario)


def test_a_chain_gives_the_first_of_its_children(daemon: FakeDaemon) -> None:
    repository = daemon.repository("dp1")
    repository.add("old", "t", b"1", visit=1)
    new = repository.add("new", "t", b"22", visit=1)
    repository.chain("c", "new", "old")

    async def scenario(tree: Tree) -> None:
        entry = await walk(tree, "dp1", "c", "t", "t_1.dat")
        assert isinstance(entry.node, File)
        assert entry.node.id == new.id
        # What a chain gives can change, what a run holds cannot.
        assert entry.valid_s == tree.collections_ttl_s < (await walk(tree, "dp1", "old", "t", "t_1.dat")).valid_s

    with_tree(daemon, scenario)


def test_collections_are_believed_for_a_while_only(daemon: FakeDaemon) -> None:
    repository = daemon.repository("dp1")
    repository.add("a", "t", b"", visit=1)

    async def scenario(tree: Tree) -> None:
        for _ in range(5):
            assert await names(tree, Directory("dp1")) == [BY_ID, "a"]
        assert daemon.calls["QueryCollections"] == 1
        repository.run("b")
        with trio.fail_after(10):
            while "b" not in await names(tree, Directory("dp1")):  # noqa: ASYNC110 - time passes by itself
                await trio.sleep(0.02)

    with_tree(daemon, scenario, collections_ttl_s=0.1)


def test_a_listing_is_never_older_than_the_state_that_it_goes_by(daemon: FakeDaemon) -> None:
    """Else the kernel would keep what lacks a collection for as long as nothing else changes."""
    repository = daemon.repository("r")
    repository.run("u/one")

    async def scenario(tree: Tree) -> None:
        above = Directory("r", ("u",))
        before = await tree.listed(above, None)
        assert await names(tree, above) == ["one"]
        repository.run("u/two")
        # Collections are still believed, but another user asks for the first time and hears of another state.
        assert (await tree.listed(above, ANNA)).state != before.state
        assert await names(tree, above, ANNA) == ["one", "two"]
        assert (await tree.listed(above, None)).state == before.state

    with_tree(daemon, scenario, collections_ttl_s=100.0)


def test_each_user_sees_what_that_user_may(daemon: FakeDaemon) -> None:
    daemon.repository("open").add("run", "t", b"", visit=1)
    closed = daemon.repository("closed").add("run", "t", b"", visit=1)
    daemon.repositories["closed"].denied = {ANNA.uid}

    async def scenario(tree: Tree) -> None:
        assert await names(tree, Root()) == ["closed", "open"]
        assert await names(tree, Root(), ANNA) == ["open"]
        await tree.lookup(Root(), "closed", None)
        file = File("closed", closed.id, 0, 0, closed.hash)
        for step in (
            tree.lookup(Root(), "closed", ANNA),
            tree.lookup(Directory("closed"), "run", ANNA),
            tree.lookup(IdDirectory("closed"), str(closed.id), ANNA),
            names(tree, Directory("closed", ("run", "t")), ANNA),
            tree.authorise(file, ANNA),
        ):
            with pytest.raises(PermissionDeniedError):
                await step
        assert await names(tree, Directory("open", ("run", "t")), ANNA) == ["t_1.dat"]
        assert {b for b in daemon.behalfs if b} == {ANNA}
        # So that the kernel asks for everybody who walks in.
        assert (await tree.lookup(Root(), "open", ANNA)).valid_s == 0

    with_tree(daemon, scenario, many_users=True)


def test_only_chosen_repositories_are_shown(daemon: FakeDaemon) -> None:
    daemon.repository("a")
    daemon.repository("b")

    async def scenario(tree: Tree) -> None:
        assert await names(tree, Root()) == ["a"]
        with pytest.raises(NotFoundError):
            await tree.lookup(Root(), "b", None)

    with_tree(daemon, scenario, repositories=("a",))


def test_a_large_directory_is_read_by_pages(daemon: FakeDaemon) -> None:
    repository = daemon.repository("dp1")
    first = repository.add("run", "t", b"", visit=0)
    for visit in range(1, 40 * BATCH):
        repository.add_alias(first, visit)

    async def scenario(tree: Tree) -> None:
        reader = DirectoryReader(lambda: tree.pages(Directory("dp1", ("run", "t")), None))
        found = await reader.entries_from(0)
        assert len(found) == BATCH
        assert daemon.most_ahead < 12
        collected = [entry.name for entry in found]
        while entries := await reader.entries_from(len(collected)):
            collected += [entry.name for entry in entries]
        assert len(set(collected)) == 40 * BATCH
        assert await reader.entries_from(40 * BATCH + 5) == []
        # Anywhere back, as seekdir asks.
        for position in (39 * BATCH + 7, 5, 20 * BATCH - 1, 0):
            assert (await reader.entries_from(position))[0].name == collected[position]
        await reader.close()

    with_tree(daemon, scenario)


def test_an_idle_listing_is_parked_and_goes_on(daemon: FakeDaemon) -> None:
    repository = daemon.repository("dp1")
    first = repository.add("run", "t", b"", visit=0)
    for visit in range(1, 20 * BATCH):
        repository.add_alias(first, visit)

    async def scenario(tree: Tree) -> None:
        reader = DirectoryReader(lambda: tree.pages(Directory("dp1", ("run", "t")), None))
        collected = [entry.name for entry in await reader.entries_from(0)]
        await reader.park(60)
        assert not daemon.cancelled
        await reader.park(-1)
        with trio.fail_after(5):
            while not daemon.cancelled:  # noqa: ASYNC110
                await trio.sleep(0.005)
        assert [entry.name for entry in await reader.entries_from(5)] == collected[5:]
        assert daemon.calls["ListTree"] == 1
        while entries := await reader.entries_from(len(collected)):
            collected += [entry.name for entry in entries]
            if len(collected) % (7 * BATCH) == 0:
                await reader.park(-1)
        assert len(set(collected)) == len(collected) == 20 * BATCH
        assert daemon.calls["ListTree"] > 2
        await reader.close()

    with_tree(daemon, scenario)


def test_a_listing_that_breaks_is_an_error_and_not_an_end(daemon: FakeDaemon) -> None:
    repository = daemon.repository("dp1")
    first = repository.add("run", "t", b"", visit=0)
    for visit in range(1, 40 * BATCH):
        repository.add_alias(first, visit)

    async def scenario() -> None:
        link = DaemonLink(daemon.socket_path)
        with trio.fail_after(20):
            async with link.running(), trio.open_nursery() as nursery:
                await nursery.start(daemon.serve)
                tree = Tree(link)
                reader = DirectoryReader(lambda: tree.pages(Directory("dp1", ("run", "t")), None))
                position = len(await reader.entries_from(0))
                daemon.die()

                async def read_on() -> None:
                    nonlocal position
                    while entries := await reader.entries_from(position):
                        position += len(entries)

                with pytest.raises(DaemonUnavailableError):
                    await read_on()
                with pytest.raises(DaemonUnavailableError):
                    await reader.entries_from(position)
                await reader.close()

    trio.run(scenario)


def test_what_a_listing_is_good_for_is_told_at_once_to_whom_it_was_told_before(daemon: FakeDaemon) -> None:
    repository = daemon.repository("dp1")
    repository.add("run", "raw", b"1", visit=1)
    repository.tagged("best", list(repository.by_id.values()))
    repository.denied.add(2000)
    ben, carl = Behalf(2000, 2000, ()), Behalf(3000, 3000, ())

    async def scenario(tree: Tree) -> None:
        nodes = [Directory("dp1", path) for path in ((), ("run",), ("run", "raw"), ("best", "raw"))]
        nodes.append(IdDirectory("dp1"))
        assert [tree.listed_at_once(node, ANNA) for node in nodes] == [None] * len(nodes)
        listed = [await tree.listed(node, ANNA) for node in nodes]
        asked = daemon.calls.total()
        assert [tree.listed_at_once(node, ANNA) for node in nodes] == listed
        with pytest.raises(PermissionDeniedError):
            await tree.listed(nodes[0], ben)
        for other in (ben, carl):
            assert [tree.listed_at_once(node, other) for node in nodes] == [None] * len(nodes)
        assert tree.listed_at_once(Root(), ben) == await tree.listed(Root(), ben)
        assert daemon.calls.total() == asked + 1

    with_tree(daemon, scenario)
