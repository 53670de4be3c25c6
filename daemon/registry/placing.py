"""Where the files of new datasets go: the default path, or what the repository's templates say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

from pantry.daemon.registry.definitions import KnownType
from pantry.errors import ConfigError, DatasetTypeError, InvalidRequestError
from pantry.model import naming
from pantry.model.data_id import DataIdValue
from pantry.model.dimensions import DimensionUniverse
from pantry.model.path_proofs import Layout, ambiguity_between, ambiguity_within, default_layout, template_layout
from pantry.model.templates import DATASET_TYPE, RUN, PathTemplate, Templates, is_integer, is_plain_suffix

_HINT = "see docs/path-templates.md: put what tells them apart between slashes, or {dataset_type} into the file's name"


class Placing:
    """Decides stored paths, and shows that no two datasets have one.

    Parameters
    ----------
    universe : DimensionUniverse
        Of the registry.

    Attributes
    ----------
    templates : Templates
        The repository's.
    """

    def __init__(self, universe: DimensionUniverse) -> None:
        self._universe = universe
        self.templates = Templates({})

    # -- proofs ------------------------------------------------------------------------------------

    def use(self, templates: Templates, known: Sequence[KnownType]) -> None:
        """Take templates, or raise `ConfigError` if datasets of known types could share a path."""
        templates.check_fields(self._universe)
        layouts: list[Layout] = []
        for one in known:
            name = one.definition.name
            try:
                layout = self._layout(one, templates)
                wrong = self._wrong(layout, layouts)
            except DatasetTypeError as exc:
                wrong = exc.message
            if wrong:
                place = templates.place(templates.key_of(name) or "")
                raise ConfigError(f"{place.rstrip('.')}: for {name}: {wrong}", hint=_HINT)
            layouts.append(layout)
        self.templates = templates

    def admit(self, new: KnownType, others: Iterable[KnownType]) -> None:
        """Refuse a dataset type whose datasets could share a path with others, with `DatasetTypeError`."""
        if not self.templates:
            return
        layouts = [self._layout(other, self.templates) for other in others if other.id != new.id]
        wrong = self._wrong(self._layout(new, self.templates), layouts)
        if wrong:
            key = self.templates.key_of(new.definition.name)
            said = f"by the template {self.templates.place(key)}" if key else "by templates of this repository"
            raise DatasetTypeError(f"{new.definition.name} cannot be stored {said}: {wrong}", hint=_HINT)

    def _wrong(self, layout: Layout, others: Iterable[Layout]) -> str:
        """Say how a type's datasets could share a path; default paths never do among themselves."""
        if layout.is_default:
            others = [other for other in others if not other.is_default]
        elif wrong := ambiguity_within(layout):
            return wrong
        return next((wrong for other in others if (wrong := ambiguity_between(layout, other))), "")

    def _layout(self, known: KnownType, templates: Templates) -> Layout:
        integers = [name for name in known.group.names if is_integer(self._universe, name)]
        name, template = known.definition.name, templates.of_type(known.definition.name)
        if template is None:
            return default_layout(name, known.path_order, integers)
        dimensions = [field.name for field in template.fields if field.name not in (RUN, DATASET_TYPE)]
        for dimension in dimensions:
            if dimension not in known.group.names:
                raise DatasetTypeError(
                    f"the template {template.text!r} has {{{dimension}}}, which is no dimension of {name}",
                    hint=f"its dimensions: {', '.join(known.group.names) or 'none'}",
                )
        for dimension in template.only:
            if dimension not in known.group.required:
                raise DatasetTypeError(
                    f"the template {template.text!r} is only for one {dimension}, which {name} does not need",
                    hint=f"its required dimensions: {', '.join(known.group.required) or 'none'}",
                )
        required = [dimension for dimension in known.group.required if dimension not in template.only]
        return template_layout(template, name, required, integers)

    def has_template(self, known: KnownType) -> bool:
        """Whether a template says where files of a type go, and not the default."""
        return self.templates.of_type(known.definition.name) is not None

    # -- paths -------------------------------------------------------------------------------------

    def paths(
        self,
        known: KnownType,
        run: str,
        required: Sequence[Sequence[DataIdValue]],
        implied: Sequence[Sequence[DataIdValue | None]],
        suffixes: Sequence[str],
    ) -> list[str]:
        """Give the paths of new datasets of one type and run.

        Parameters
        ----------
        known : KnownType
            Their type.
        run : str
            Their run.
        required, implied : sequence of tuple
            For each dataset its values, in the order of the type's group; implied ones matter if it has a template.
        suffixes : sequence of str
            Of each dataset.
        """
        template = self.templates.of_type(known.definition.name)
        if template is None:
            return _default_paths(known, run, required, suffixes)
        for suffix in set(suffixes):
            if not is_plain_suffix(suffix):
                raise InvalidRequestError(
                    f"the suffix {suffix!r} of a {known.definition.name} could not be told from its templated path",
                    hint="one word of at most 8 letters and digits, or that and a compression such as '.fits.fz'",
                )
        _refuse_others(template, known, required)
        return template.paths(known.definition.name, run, _columns(template, known, required, implied), suffixes)


def _refuse_others(template: PathTemplate, known: KnownType, required: Sequence[Sequence[DataIdValue]]) -> None:
    for dimension, wanted in template.only.items():
        number = known.group.required.index(dimension)
        others = {row[number] for row in required} - {wanted}
        if others:
            raise InvalidRequestError(
                f"the template {template.text!r} of {known.definition.name} is only for {dimension} {wanted!r}, "
                f"not {min(map(repr, others))}",
                hint="a template for all has {" + dimension + "} in it; see docs/path-templates.md",
            )


def _columns(
    template: PathTemplate,
    known: KnownType,
    required: Sequence[Sequence[DataIdValue]],
    implied: Sequence[Sequence[DataIdValue | None]],
) -> dict[str, list[DataIdValue | None]]:
    found: dict[str, list[DataIdValue | None]] = {}
    for name in {field.name for field in template.fields}:
        if name in known.group.required:
            number = known.group.required.index(name)
            found[name] = [row[number] for row in required]
        elif name in known.group.implied:
            number = known.group.implied.index(name)
            found[name] = [row[number] for row in implied]
    return found


def _default_paths(
    known: KnownType, run: str, values: Sequence[Sequence[DataIdValue]], suffixes: Sequence[str]
) -> list[str]:
    """Do what `naming.dataset_path` does, for many: parts of names are quoted once per distinct value."""
    name = known.definition.name
    order = [known.group.required.index(dimension) for dimension in known.path_order]
    if not order:
        return [naming.dataset_path(run, name, (), suffix) for suffix in suffixes]
    *above, last = order
    quoted = [{value: naming.quote_value(value) for value in {row[number] for row in values}} for number in above]
    columns = [[names[row[number]] for row in values] for number, names in zip(above, quoted, strict=True)]
    pairs = [(row[last], suffix) for row, suffix in zip(values, suffixes, strict=True)]
    written = {pair: naming.quote_last(*pair) for pair in set(pairs)}
    columns.append([written[pair] for pair in pairs])
    directories: list[Iterable[str]] = []
    values_of_file: list[Iterable[str]] = []
    for column in columns[:-1]:
        directories += [column, repeat("/")]
        values_of_file += [column, repeat("_")]
    row_parts = zip(
        repeat(f"{run}/{name}/"), *directories, repeat(f"{name}_"), *values_of_file, columns[-1], suffixes, strict=False
    )
    made = ["".join(parts) for parts in row_parts]
    for number, part in enumerate(columns[-1]):
        # Only text has "_": see decision 0043 for whose path it could be.
        if "_" in part and naming.is_ambiguous(run, name, [column[number] for column in columns]):
            directory, _, file = made[number].rpartition("/")
            rest = file.removeprefix("_".join([name, *[column[number] for column in columns[:-1]], ""]))
            made[number] = f"{directory}/{file.removesuffix(rest)}{rest.replace('_', '%5F')}"
    return made
