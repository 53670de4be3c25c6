"""``python -m scripts.demo [--keep | --stop [DIRECTORY]]``; see `make demo`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.demo import site as sites
from scripts.demo.display import Display
from scripts.demo.failures import DemoError, Interrupted, Interruptions
from scripts.demo.night import RAW_RUN
from scripts.demo.site import REPOSITORY, Site

PROJECT = Path(__file__).parents[2]
_INTRODUCTION = (
    "A repository in S3, cached, mounted, read and written. Everything lies below one temporary\n"
    "directory; your own daemon, files and settings are not touched."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status is 0 if all of it went well."""
    options = _parser().parse_args(arguments)
    display = Display()
    try:
        if options.stop is not None:
            return _stop(options.stop, display)
        return _run(options, display)
    except DemoError as exc:
        display.failure(exc)
        return 1
    except Interrupted as exc:
        display.errors.print("\nInterrupted; everything that was started has been ended and removed.")
        return 128 + exc.number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description="Show what Pantry does.")
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument(
        "--stop", nargs="?", const="", metavar="DIRECTORY", help="end the demo that was kept there; alone, all of them"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=PROJECT / "build" / "demo",
        metavar="DIRECTORY",
        help="where the picture goes [%(default)s]",
    )
    parser.add_argument("--verbose", action="store_true", help="show where an error came from")
    return parser


def _run(options: argparse.Namespace, display: Display) -> int:
    interruptions = Interruptions()
    interruptions.install()
    begin = time.monotonic()
    from scripts.demo.story import Story  # takes its time, and may be interrupted

    site = Site()
    kept = False
    try:
        display.title("Pantry", f"{_INTRODUCTION}\n{site.directory}")
        story = Story(site, display, options.output, interruptions)
        try:
            story.tell()
        except DemoError:
            raise
        except Exception as exc:
            if options.verbose:
                display.errors.print_exception()
            raise site.blame(exc) from exc
        interruptions.check()
        _what_next(display, site, story.picture, keep=options.keep, seconds=time.monotonic() - begin)
        if options.keep:
            site.keep()
            kept = True
    finally:
        interruptions.ignore()
        if not kept:
            site.close()
    if not kept:
        display.say("[dim]Everything that was started has been ended, and the directory is gone.")
    return 0


def _what_next(display: Display, site: Site, picture: Path | None, *, keep: bool, seconds: float) -> None:
    display.section("What to try next")
    command = _command("pantry")
    if keep:
        rows = [
            ("Programs find this daemon by", f"export PANTRY_SOCKET={shlex.quote(site.socket)}"),
            ("How it is", f"{command} status"),
            ("Find exposures", f"{command} query-datasets {REPOSITORY} raw -c {RAW_RUN} -w \"band = 'g'\" --limit 5"),
            ("Read a header in Python", _python_line()),
            ("End all of this", f"{_command('python')} -m scripts.demo --stop {shlex.quote(str(site.directory))}"),
        ]
        if not site.no_mount:
            below = site.mount_point / REPOSITORY / RAW_RUN / "raw"
            rows.insert(3, ("Look around with any program", f"ls -l {shlex.quote(str(below))}/*/*"))
    else:
        rows = [
            ("The same again, left running to explore", "make demo KEEP=1"),
            ("A repository of your own; the daemon starts by itself", f"{command} repo create mine ~/pantry-mine"),
            ("Raw exposures go in by what their headers say", f"{command} ingest-raws mine DIRECTORY"),
            ("... and are seen as files", f"mkdir -p ~/pantry && {command} mount ~/pantry && ls ~/pantry/mine"),
            ("All tests, with all real servers", "make test"),
        ]
    display.commands(rows)
    display.say("")
    if picture is not None:
        display.say(f"The picture stays at [bold]{picture}")
    display.say(f"[dim]The demo took {seconds:.0f} s.")


def _python_line() -> str:
    code = (
        f"from pantry.client import Butler; b = Butler('{REPOSITORY}', collections='{RAW_RUN}'); "
        "print(repr(b.get('raw.header', b.query_datasets('raw', limit=1)[0].data_id)))"
    )
    return f'{_command("python")} -c "{code}"'


def _command(name: str) -> str:
    """Return how to call a program of this environment from where the user is."""
    path = Path(sys.executable).parent / name
    inside = path.is_relative_to(Path.cwd())
    return shlex.quote(os.path.relpath(path) if inside else str(path))


def _stop(directory: str, display: Display) -> int:
    chosen = [Path(directory)] if directory else sites.stoppable()
    if not chosen:
        display.say("No demo of yours was left running.")
    for one in chosen:
        ended = sites.stop(one)
        display.good(f"{one}: ended {', '.join(ended) or 'nothing, as nothing was running'}; the directory is gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
