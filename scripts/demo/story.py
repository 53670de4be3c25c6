"""What the demo shows, in its order."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.tree import Tree

from pantry.client import Butler, DatasetRef
from pantry.client.cli.output import size
from pantry.client.simulation import assemble
from pantry.wire.operations import CachedObject, ListCache
from scripts.demo import night, picture, reads
from scripts.demo.display import Display, duration
from scripts.demo.failures import DemoError, Interruptions
from scripts.demo.site import REPOSITORY, ROOT, Site

IMAGE_TYPE = "post_isr_image"
_SEGMENT = "Segment10"
_SEGMENT_BOX = (100, 900, 300, 1100)
_IMAGE_BOX = (1900, 1950, 2100, 2050)
_TREE_ENTRIES = 3
_CACHED_SHOWN = 8


class Story:
    """One run of the demo.

    Parameters
    ----------
    site : Site
        What is shown; nothing of it is started yet.
    display : Display
        Where it is shown.
    pictures : Path
        Directory for the picture.
    interruptions : Interruptions
        Asked before each part.
    """

    def __init__(self, site: Site, display: Display, pictures: Path, interruptions: Interruptions) -> None:
        self.site = site
        self.display = display
        self.pictures = pictures
        self._interruptions = interruptions
        self.picture: Path | None = None

    def tell(self) -> None:
        """Show everything, from nothing to a written dataset."""
        self._start()
        with Butler.create(REPOSITORY, ROOT, socket=self.site.socket) as made:
            butler = made.clone(collections=night.RAW_RUN)
            self._take_exposures(butler)
            self._show_tree()
            full = night.full_size(butler)
            first = butler.query_datasets("raw", where="exposure.seq_num = 1")[0]
            self._compare_hashes(butler, first)
            self._time_reads(butler, full)
            image = self._draw(butler, full)
            written = self._write_back(butler, full, image)
            self._cut_out(butler, full, written, image)
            self._show_cache(butler)

    def _section(self, title: str) -> None:
        self._interruptions.check()
        self.display.section(title)

    def _start(self) -> None:
        site, display = self.site, self.display
        self._section("What runs")
        with display.waiting("starting a real S3 server (SeaweedFS)"):
            site.start_server()
        display.good(f"SeaweedFS, an S3 server, at {site.server.endpoint_url} (PID {site.server.pid})")
        with display.waiting("starting pantryd"):
            site.start_daemon()
        display.good(f"pantryd, the daemon, at {site.socket} (PID {site.daemon_pid})")
        display.say("[dim]Only the daemon has the S3 credentials. Programs have its socket, and need nothing else.")

    def _take_exposures(self, butler: Butler) -> None:
        display = self.display
        self._section("A night of raw exposures goes into a repository in the bucket")
        begin = time.perf_counter()
        with display.progress("simulating LSSTCam", night.N_EXPOSURES + 1) as progress:
            files = night.simulate(self.site.directory / "incoming", progress)
        total, largest = sum(path.stat().st_size for path in files), files[-1].stat().st_size
        display.good(
            f"simulated {len(files)} exposures, {size(total)} (the last one in full size, {size(largest)})"
            f" [dim]in {duration(time.perf_counter() - begin)}"
        )
        begin = time.perf_counter()
        with display.progress(f"ingesting into {ROOT}", len(files)) as progress:
            night.ingest(butler, files, progress)
        seconds = time.perf_counter() - begin
        display.good(
            f"ingested them into the repository [bold]{REPOSITORY}[/] at {ROOT}, each hashed, stored and registered"
            f" [dim]in {duration(seconds)}"
        )
        refs = butler.query_datasets("raw", where="band = 'r' AND exposure.seq_num < 10", with_dimension_records=True)
        display.say(f"A query, [cyan]band = 'r' AND exposure.seq_num < 10[/], finds {len(refs)} of them; the first is")
        display.say(f"[cyan]{escape(repr(refs[0].data_id))}[/]")

    def _show_tree(self) -> None:
        display, site = self.display, self.site
        self._section("The same repository as a directory of files")
        with display.waiting("mounting"):
            site.start_mount()
        if site.no_mount:
            display.say(f"[yellow]Left out:[/] {escape(site.no_mount)}.")
            display.say("The mount's part of what follows is left out too; all else is complete.")
            return
        tree = Tree(f"[bold]{site.mount_point}", guide_style="dim")
        _grow(tree, site.mount_point)
        display.show(tree)
        display.say("[dim]Read-only, names that never change; `ls -l` and `find` cause no traffic to the origin.")

    def _compare_hashes(self, butler: Butler, ref: DatasetRef) -> None:
        display = self.display
        self._section("One file, the same bytes in every way to get it")
        file = reads.stored_file(butler, ref)
        seen = reads.hashes(self.site, butler, ref)
        origin = next(iter(seen.values()))
        rows = [(way, digest, "[green]✓[/]" if digest == origin else "[red]✗[/]") for way, digest in seen.items()]
        display.say(f"[cyan]{escape(file.path)}[/], {size(file.size_bytes)}")
        display.table(("how", "xxh3-128", "equal"), rows)
        if {*seen.values(), file.hash} != {origin}:
            raise DemoError(f"the hashes differ; the registry has {file.hash}", hint="this is a defect in Pantry")
        display.good(
            f"All {_NUMBERS[len(seen)]} hashes are equal, and equal to the one that the registry recorded at ingest"
        )

    def _time_reads(self, butler: Butler, ref: DatasetRef) -> None:
        display = self.display
        self._section("The first reader waits for the network, the next ones do not")
        rows = []
        for name, one in reads.cold_and_warm(self.site, butler, ref).items():
            rate = f"{size(int(one.result / one.seconds))}/s"
            rows.append((name, duration(one.seconds), rate, size(one.fetched_bytes), str(one.requests)))
        display.say("The full-size exposure, read to its end:")
        columns = ("read by", "time", "rate", "over the network", "requests")
        display.table(columns, rows, right=columns[1:])
        display.say(
            "[dim]Here the origin is on the same machine. Cold reads from a real one take what its distance takes."
        )

    def _draw(self, butler: Butler, ref: DatasetRef) -> Any:
        display = self.display
        self._section("From sixteen segments to a picture")
        with display.waiting("assembling and drawing"):
            image = assemble(butler.get(ref))
            exposure = ref.data_id["exposure"]
            self.picture = self.pictures / f"LSSTCam-{exposure}-R22_S11.png"
            title = f"Simulated LSSTCam exposure {exposure}, R22_S11, {image.meta.get('FILTBAND', 'i')} band"
            try:
                picture.draw(image, self.picture, title)
            except OSError as exc:
                raise DemoError(
                    f"the picture cannot be written: {exc}", hint="--output chooses another directory"
                ) from exc
        height, width = image.shape
        display.good(f"assembled {width} x {height} pixels, bias subtracted, with their WCS")
        display.good(f"drawn to [bold]{escape(str(self.picture))}")
        return image

    def _write_back(self, butler: Butler, ref: DatasetRef, image: Any) -> DatasetRef:
        display = self.display
        self._section("The image becomes a dataset")
        run = f"u/{_user()}/demo"
        butler.register_dataset_type(IMAGE_TYPE, night.DIMENSIONS, "CCDData")
        with display.waiting("writing"):
            written = reads.measure(butler, lambda: butler.put(image, IMAGE_TYPE, ref.data_id.required, run=run))
        new: DatasetRef = written.result
        file = reads.stored_file(butler, new)
        display.good(
            f"butler.put: {size(file.size_bytes)} stored and registered, all or nothing"
            f" [dim]in {duration(written.seconds)}"
        )
        display.say(f"[cyan]{escape(file.path)}")
        back = butler.get(new)
        same = np.array_equal(back.data, image.data) and back.unit == image.unit and _same_sky(back, image)
        if not same:
            raise DemoError("what was read back is not what was written", hint="this is a defect in Pantry")
        display.good("butler.get: the same pixels, unit and WCS come back")
        return new

    def _cut_out(self, butler: Butler, raw: DatasetRef, written: DatasetRef, image: Any) -> None:
        display = self.display
        self._section("Cut-outs fetch only what they need")
        x0, y0, x1, y1 = _IMAGE_BOX
        part = reads.cut_out_of_image(butler, written, _IMAGE_BOX)
        if not np.array_equal(part.result.data, image.data[y0:y1, x0:x1]):
            raise DemoError("the cut-out is not that part of the image", hint="this is a defect in Pantry")
        segment = reads.cut_out_of_segment(butler, raw, _SEGMENT, _SEGMENT_BOX)
        display.say(f'From the image, by [cyan]butler.get(..., parameters={{"bbox": {_IMAGE_BOX}}})[/], and from')
        display.say(f"the raw, {_SEGMENT}, by astropy on what [cyan]butler.open(..., partial=True)[/] returns:")
        rows = []
        for what, ref, one in ((IMAGE_TYPE, written, part), ("raw", raw, segment)):
            file = reads.stored_file(butler, ref)
            pixels = one.result.shape
            share = f"{100 * one.fetched_bytes / file.size_bytes:.1f} %"
            row = (what, f"{pixels[1]} x {pixels[0]}", size(one.fetched_bytes), size(file.size_bytes), share)
            rows.append((*row, duration(one.seconds)))
        columns = ("cut-out of", "pixels", "fetched", "of", "share", "time")
        display.table(columns, rows, right=columns[1:])
        centre = part.result.wcs.pixel_to_world((x1 - x0) / 2, (y1 - y0) / 2)
        display.say(f"The first one brings its WCS: its centre is at {centre.to_string('hmsdms', precision=1)}.")

    def _show_cache(self, butler: Butler) -> None:
        display = self.display
        night_files = butler.query_datasets("raw", where="exposure.seq_num < 6")
        for ref in night_files:
            with butler.open(ref):
                pass
        self._section("What the cache holds")
        held: list[CachedObject] = [one for batch in butler.connection.stream(ListCache()) for one in batch.objects]
        rows = []
        for one in held[:_CACHED_SHOWN]:
            cached = "all" if one.cached_bytes >= one.size_bytes else size(one.cached_bytes)
            rows.append((escape(one.name.rpartition("/")[2] or one.hash), one.hash[:12], size(one.size_bytes), cached))
        if len(held) > _CACHED_SHOWN:
            rows.append((f"and {len(held) - _CACHED_SHOWN} more", "", "", ""))
        display.table(("file", "xxh3-128", "size", "cached"), rows, right=("size", "cached"))
        status = reads.cache_status(butler)
        display.say(
            f"{size(status.used_bytes)} of {size(status.quota_bytes)} used; since the daemon started"
            f" {status.hits} opens found the whole file there, {status.misses} did not;"
            f" {size(status.fetched_bytes)} fetched in {status.fetches} requests."
        )


_NUMBERS = {3: "three", 4: "four"}


def _grow(tree: Tree, directory: Path) -> None:
    entries = sorted(directory.iterdir())
    for path in entries[:_TREE_ENTRIES]:
        if path.is_dir():
            _grow(tree.add(f"[cyan]{escape(path.name)}/"), path)
        else:
            tree.add(f"{escape(path.name)}  [dim]{size(path.stat().st_size)}")
    if len(entries) > _TREE_ENTRIES:
        tree.add(f"[dim]... and {len(entries) - _TREE_ENTRIES} more")


def _same_sky(one: Any, other: Any) -> bool:
    corners = [(0, 0), (4000, 0), (0, 4000), (4000, 4000)]
    there = [(image.wcs.pixel_to_world_values(*corner)) for image in (one, other) for corner in corners]
    return bool(np.allclose(there[:4], there[4:], rtol=0, atol=1e-9))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "me"
