"""``pantry``: the entry point, with the list of commands, of which each is imported only when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from pantry import __version__
from pantry.client.cli.lazy import LazyGroup
from pantry.errors import PantryError

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_COMMANDS = {
    "ancestors": ("provenance:ancestors", "Find everything that a dataset was made of."),
    "backends": ("backends:backends", "Show how storage and services are."),
    "bundle": ("bundle:bundle", "Take datasets to where there is no daemon, and bring outputs back."),
    "cache": ("cache:cache", "Look at the node's cache, and make room in it."),
    "certify-calibrations": ("calibrations:certify_calibrations", "Say for which time calibrations are valid."),
    "collections": ("collections:collections", "List, make and chain collections."),
    "completion": ("completion:completion", "Print the completion script of a shell."),
    "config": ("config:config", "Show and check the active configuration."),
    "correct-headers": ("header_corrections:correct_headers", "Say what is wrong in the headers of raw exposures."),
    "credentials": ("credentials:credentials", "Hand your own credentials over, and take them back."),
    "dataset-types": ("dataset_types:list_dataset_types", "List the dataset types of a repository."),
    "delete": ("delete:delete", "Delete datasets for good."),
    "derive-visits": ("derive_visits:derive_visits", "Take visits from processed images of another repository."),
    "descendants": ("provenance:descendants", "Find everything that was made of a dataset."),
    "efd": ("efd:efd", "Ask the engineering facility database."),
    "get": ("files:get", "Print a dataset, or write its file."),
    "header-corrections": ("header_corrections:header_corrections", "List corrections of raw headers."),
    "ingest": ("ingest:ingest", "Take existing files into a repository."),
    "ingest-calibrations": (
        "calibrations:ingest_calibrations",
        "Take master calibrations in; their headers say what they are.",
    ),
    "ingest-discovered": (
        "ingest_discovered:ingest_discovered",
        "Register files that an archive's discovery service finds.",
    ),
    "ingest-raws": ("ingest_raws:ingest_raws", "Take raw exposures in; their headers say what they are."),
    "join-by-time": ("join_by_time:join_by_time", "Join a table with observations by time."),
    "metrics": ("cache:metrics", "Print the daemon's numbers for Prometheus."),
    "mount": ("mount:mount", "Show repositories as a directory of files."),
    "object": ("objects:objects", "Read files of a storage by their keys."),
    "provenance": ("provenance:provenance", "Show what made a dataset, and what has used it."),
    "publish": ("publish:publish", "Publish datasets to web services."),
    "put": ("files:put", "Store a file as a new dataset."),
    "query-data-ids": ("queries:query_data_ids", "Find data ids."),
    "query-datasets": ("queries:query_datasets", "Find datasets."),
    "query-graph": ("graph:query_graph", "Find data units and datasets, and which belong together."),
    "query-dimension-records": ("queries:query_dimension_records", "Find exposures, detectors, tracts, ..."),
    "register-dataset-type": ("dataset_types:register_dataset_type", "Register a dataset type."),
    "register-instrument": ("register_instrument:register_instrument", "Add an instrument that a text file defines."),
    "register-skymap": ("register_skymap:register_skymap", "Add a tiling of the sky."),
    "repo": ("repositories:repo", "Create, list and describe repositories."),
    "service": ("services:service", "Ask catalogues and databases."),
    "stage": ("stage:stage", "Put datasets' files into a directory."),
    "status": ("status:status", "Show how the daemon is."),
    "umount": ("mount:umount", "Undo a mount."),
    "update-exposures": (
        "header_corrections:update_exposures",
        "Bring records of exposures up to date with corrected headers.",
    ),
    "write-curated-calibrations": (
        "calibrations:write_curated_calibrations",
        "Take calibrations in that people keep as text.",
    ),
}


class OutputClosed(Exception):  # noqa: N818 - no error
    """Whoever read our output has seen enough; no OSError, of which click would make its own exit."""


class FailedCommand(click.ClickException):
    """A `PantryError` as click shows it: one line, and one for the hint."""

    exit_code = 1

    def __init__(self, error: PantryError) -> None:
        super().__init__(error.message)
        self.error = error

    def show(self, file: Any = None) -> None:
        """Print the error to stderr."""
        click.echo(f"pantry: error: {self.error}", file=file or sys.stderr)


class PantryGroup(LazyGroup):
    """The top command, which turns errors into messages."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PantryError as exc:
            if ctx.params.get("verbose"):
                import traceback

                traceback.print_exc()
            raise FailedCommand(exc) from exc
        except BrokenPipeError:
            raise OutputClosed from None
        except OSError as exc:
            if not exc.filename:
                raise
            raise click.ClickException(f"{os.fsdecode(exc.filename)}: {exc.strerror}") from exc


@click.group(
    cls=PantryGroup,
    where="pantry.client.cli",
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--socket", metavar="PATH", help="Socket of the daemon, if it is not the usual one.")
@click.option("-v", "--verbose", is_flag=True, help="Show where errors came from.")
@click.version_option(__version__, prog_name="pantry", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, socket: str | None, verbose: bool) -> None:
    """Find, read and write the datasets of astronomical repositories.

    A repository holds datasets: files that are found by what they are (their dataset type, such as
    "raw") and what they are about (their data id, such as exposure=12 detector=3), never by their
    path. Pantry's daemon reads them from wherever they are stored and keeps them at hand.

    Begin with:
      pantry repo create demo ~/demo           make a repository
      pantry ingest-raws demo ~/raws/*.fits    take exposures into it
      pantry query-datasets demo raw -c '*'    see what it has
    """
    ctx.obj = socket


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with 0, 1 after an error, 2 after wrong usage, 130 after Ctrl-C."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    if "_PANTRY_COMPLETE" in os.environ:
        from pantry.client.cli.bash import register

        register()
    try:
        result = cli.main(arguments, prog_name="pantry", standalone_mode=False)
        sys.stdout.flush()
    except FailedCommand as exc:
        exc.show()
        return exc.exit_code
    except click.UsageError as exc:
        exc.show()
        return exc.exit_code
    except click.ClickException as exc:
        click.echo(f"pantry: error: {exc.format_message()}", err=True)
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except (BrokenPipeError, OutputClosed):
        # Nothing more may be written, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    main()
