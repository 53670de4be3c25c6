"""``pantry repo``: create, attach, chain, import, subset, remove, list, info."""

from __future__ import annotations

import os
from typing import IO

import click

from pantry.client.cli.arguments import reader_option, registry_option, repository_argument, writer_option
from pantry.client.cli.lazy import CommandGroup
from pantry.client.cli.output import json_option, print_fields, print_json, print_table
from pantry.client.cli.repo_import import import_export
from pantry.client.cli.repo_remove import remove
from pantry.client.cli.repo_subset import subset
from pantry.client.cli.session import daemon
from pantry.model.formats import NO_FORMATS
from pantry.model.repository import RepositoryInfo
from pantry.model.templates import TemplateLike
from pantry.wire.operations import (
    AttachRepository,
    ChainRepositories,
    CreateRepository,
    GetRepository,
    ListRepositories,
)


@click.group(cls=CommandGroup)
def repo() -> None:
    """Create, attach, list and describe repositories.

    For example:
      pantry repo list
    """


@repo.command()
@click.argument("name")
@click.argument("root")
@registry_option
@click.option("--dimensions", type=click.File(), metavar="FILE", help="Dimension universe in Gen3's YAML form.")
@click.option("--formats", type=click.Path(exists=True, dir_okay=False), help="What is stored in which format.")
@click.option("--templates", type=click.Path(exists=True, dir_okay=False), help="Where files go, by dataset type.")
@click.option("--storage-option", multiple=True, metavar="NAME=VALUE", help="Option of the storage; may be repeated.")
@reader_option
@writer_option
@json_option
@click.pass_context
def create(
    ctx: click.Context,
    name: str,
    root: str,
    registry: str,
    dimensions: IO[str] | None,
    formats: str | None,
    templates: str | None,
    storage_option: tuple[str, ...],
    reader: tuple[str, ...],
    writer: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a repository called NAME, with its files in ROOT.

    ROOT is a directory or s3://bucket/prefix, and must not hold a repository yet.

    For example:
      pantry repo create demo ~/demo --reader '*'
    """
    from pantry.client.butler.forms import path_templates, user_formats

    made = daemon(ctx).call(
        CreateRepository(
            name=name,
            root=_absolute(root),
            registry=registry,
            dimensions=dimensions.read() if dimensions else "",
            storage_options=_options(storage_option),
            readers=reader,
            writers=writer,
            formats=user_formats(formats) if formats else NO_FORMATS,
            templates=path_templates(templates) if templates else {},
        )
    )
    _show(made, as_json)


def _option_value(text: str) -> str | int | bool:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.lstrip("-").isdecimal() else text


@repo.command()
@click.argument("name")
@click.argument("configuration", metavar="PATH-TO-BUTLER.YAML")
@click.option("--registry", default="", metavar="URL", help="Its database, if not the one that the file names.")
@click.option("--storage-option", multiple=True, metavar="NAME=VALUE", help="Option of the storage; may be repeated.")
@reader_option
@json_option
@click.pass_context
def attach(
    ctx: click.Context,
    name: str,
    configuration: str,
    registry: str,
    storage_option: tuple[str, ...],
    reader: tuple[str, ...],
    as_json: bool,
) -> None:
    """Attach a repository of the Gen3 Butler, to read it where it is.

    Nothing is converted or written. PATH-TO-BUTLER.YAML may be the directory that holds the file.

    For example:
      pantry repo attach dp1 /repo/dp1/butler.yaml --reader '*'
    """
    made = daemon(ctx).call(
        AttachRepository(
            name=name,
            configuration=_absolute(configuration),
            registry=registry,
            storage_options=_options(storage_option),
            readers=reader,
        )
    )
    _show(made, as_json)


@repo.command()
@click.argument("name")
@click.argument("repositories", nargs=-1, required=True, metavar="REPOSITORY...")
@json_option
@click.pass_context
def chain(ctx: click.Context, name: str, repositories: tuple[str, ...], as_json: bool) -> None:
    """Call several repositories, which are read as one, NAME.

    Of datasets with one type and data id that of the first repository is found; what is written goes to the
    first. Without a name, write them with commas: pantry query-datasets mine,dp1 raw.

    For example:
      pantry repo chain analysis mine dp1
    """
    _show(daemon(ctx).call(ChainRepositories(name=name, members=repositories)), as_json)


repo.add_command(import_export)
repo.add_command(remove)
repo.add_command(subset)


def _absolute(where: str) -> str:
    # The daemon has a working directory of its own.
    return where if "://" in where else os.path.abspath(os.path.expanduser(where))


def _options(pairs: tuple[str, ...]) -> dict[str, str | int | float | bool]:
    options: dict[str, str | int | float | bool] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--storage-option {pair!r}: write it as name=value")
        options[key] = _option_value(value)
    return options


@repo.command("list")
@json_option
@click.pass_context
def list_repositories(ctx: click.Context, as_json: bool) -> None:
    """List the repositories that you may read.

    For example:
      pantry repo list
    """
    found = daemon(ctx).call(ListRepositories()).repositories
    if as_json:
        print_json(found)
    else:
        print_table(
            ("name", "root", "you may"),
            (
                (
                    one.name,
                    f"chain of {', '.join(one.chain)}" if one.chain else one.root,
                    "write" if one.writable else "read",
                )
                for one in found
            ),
        )


@repo.command()
@repository_argument
@json_option
@click.pass_context
def info(ctx: click.Context, repository: str, as_json: bool) -> None:
    """Describe one repository.

    For example:
      pantry repo info demo
    """
    _show(daemon(ctx).call(GetRepository(repository=repository)), as_json)


def _show(found: RepositoryInfo, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "name": found.name,
            **({"chain of": ", ".join(found.chain)} if found.chain else {}),
            **({"view of": ", ".join(found.view_of)} if found.view_of else {}),
            "root": found.root,
            "registry": found.registry,
            "uuid": found.uuid,
            "data model": found.version,
            "you may": "write" if found.writable else "read",
        }
    )
    if found.templates:
        print_table(("dataset type", "path", "only for"), map(_template_row, found.templates.items()))


def _template_row(named: tuple[str, TemplateLike]) -> tuple[str, str, str]:
    name, one = named
    if isinstance(one, str):
        return name, one, ""
    return name, one.path, ", ".join(f"{dimension}={value}" for dimension, value in one.only.items())
