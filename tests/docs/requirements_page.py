"""Which tests show which requirement of LDM-556: ``python -m tests.docs.requirements_page [--write]``.

The marks ``@pytest.mark.req("DMS-MWBT-REQ-0054")`` are read from the source of the tests, so that the page is the
same whatever a machine can run. Without ``--write`` the page is printed.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "requirements.md"

MWBT: dict[int, str] = {
    1: "A repository can be moved between storage contexts",
    2: "A repository says which version of the data model it has",
    3: "A new repository of the present version is made from an old one, never silently in place",
    4: "Who may can delete a dataset",
    5: "Who may can remove a repository, from every storage",
    6: "Removing a repository keeps files that other, named repositories refer to",
    7: "Repositories are merged, with a strategy for conflicts",
    8: "Raw science images are ingested into a local repository",
    9: "Raw calibration frames are ingested into a local repository",
    10: "A new repository is a view of a part of another, nothing copied",
    11: "A new repository is a copy of a part of another",
    12: "A repository is the input of processing whose outputs go to another",
    13: "Layers: a data release below processing in the Science Platform",
    14: "Layers: a data release below test processing on external hardware",
    15: "Layers: intermediates of data release production below its later steps",
    16: "Layers: intermediates of data release production below test processing elsewhere",
    17: "Layers: Science Platform repositories below processing in the Science Platform",
    18: "Layers: Science Platform repositories below test processing elsewhere",
    19: "A repository or a part of it is transferred to the Science Platform",
    20: "A tiling of the sky is added from a configuration or by a program",
    21: "Several tilings of the sky in one repository",
    22: "Several cameras in one repository, simulated ones too",
    23: "A new repository has dimension records that come from processing outputs",
    24: "Repositories are registered by name as they are made",
    25: "A text file decides format, formatter and Python type of a dataset type",
    26: "The active configuration can be printed",
    27: "Datasets of chosen types are kept in memory within a process",
    28: "Repositories in a VOSpace, fetched only as needed",
    29: "The shared VOSpace from notebooks",
    30: "Repositories on distributed file systems",
    31: "Repositories in cloud object stores",
    32: "Everything that was written in a scientific format can be read",
    33: "A part of a dataset, by parameters, without loading all of it",
    34: "One component of a composite, without loading all of it",
    35: "One Python object from several sources",
    36: "The same interface for reading from all kinds of repositories",
    37: "Reading official data releases",
    38: "Reading outputs of batch jobs that notebooks started",
    39: "Reading outputs of test processing",
    40: "Reading from repositories that are neither local nor POSIX",
    41: "The engineering database is queried by visit",
    42: "Reading from the transformed engineering database",
    43: "Reading from the base engineering database",
    44: "The same interface to both engineering databases",
    45: "Observation metadata is associated with a dataset by its date",
    46: "Datasets that are not of LSST are stored",
    47: "Datasets that are not of LSST are served like the others",
    48: "Catalogues of third parties are read by a plugin through the same interface",
    49: "Raw files of the main and the auxiliary telescope are read",
    50: "Raw data are read with up-to-date visit metadata",
    51: "A part of a composite is replaced by one that is stored elsewhere",
    52: "Inputs are staged to compute nodes",
    53: "An object is built from local files, without a database connection",
    54: "By configuration, a missing input file is an error at once",
    55: "A local proxy shares remote retrievals",
    56: "Named selections on catalogues",
    57: "Database queries are datasets",
    58: "Remote datasets are cached locally",
    59: "New dataset types can be made",
    60: "Writers are configured locally",
    61: "Images are written as standard FITS",
    62: "Tables are written as standard FITS",
    63: "One dataset is written to several repositories",
    64: "Later processing adds to an existing repository",
    65: "Output to repositories that are not local",
    66: "Output paths are decided by the configuration",
    67: "The same interface for writing in all contexts",
    68: "Writing outputs of data release production",
    69: "Writing outputs of alert production",
    70: "Writing outputs in the Science Platform",
    71: "Writing outputs of test processing",
    72: "Publishing to web services",
    73: "A write returns when the data is stored, or raises",
    74: "Nothing that exists is overwritten",
    75: "A write returns a full reference to the dataset",
    76: "A failed write leaves nothing behind",
    77: "A composite is exported as one file",
    78: "One file name per dataset, the same everywhere",
    79: "Outputs are harvested from a node's scratch space",
    80: "Finding all that could be used to make a given output",
    81: "Several repositories, searched in turn, are one",
    82: "The same dataset from several repositories side by side",
    83: "One interface for discovery that gives a graph",
    84: "Discovery for data release production",
    85: "Discovery for test processing",
    86: "Discovery for batch processing from notebooks",
    87: "An operator's overrides of datasets",
    88: "Filters that need other tables",
    89: "Filters on data quality",
    90: "A list of datasets to leave out",
    91: "Declared metadata of a dataset without reading its file",
    92: "Introspection and completion for query expressions",
    93: "Ids of the raw data of all contributors, in the file",
    94: "Everything that was made from a dataset",
    95: "Inputs are recorded as predicted and as used, and reported",
    96: "Immediate parents, in the file",
}
"""Requirements on data access (DMS-MWBT-REQ), in our words."""

MWST: dict[int, str] = {
    1: "A pipeline specifies the algorithmic work completely",
    2: "A pipeline runs unchanged under every executor",
    3: "Pipelines are built by program",
    4: "A pipeline says which tasks run, in which order",
    5: "A pipeline carries its configuration",
    6: "Each step declares how its data are grouped",
    7: "The grouping may differ from step to step",
    8: "Tasks and configurations are the existing ones",
    9: "A step is given its Butler",
    10: "A step runs under the framework's supervision",
    11: "Preflight and run are separate phases",
    12: "Inputs that are implied are resolved at preflight",
    13: "All input and output go through the Butler",
    14: "Names of dataset types are configuration",
    15: "Steps are inserted by program",
    16: "Configuration is overridden before the run",
    17: "Pipelines are defined in a file",
    18: "Several kinds of execution environments",
    19: "The mandatory execution environments",
    20: "The grouping logic exists once",
    21: "Preflight makes the graph of quanta",
    22: "The graph is serialised",
    23: "The framework makes the Butlers",
    24: "What was used is recorded without the task's help",
    25: "Logging is set up for preflight and run",
    26: "How much provenance is recorded is configurable",
    27: "Campaigns are specified by outputs, inputs or both",
    28: "Difference-image objects and sources are stored and read back in time",
    29: "Alerts and difference-image objects are sent in time",
    30: "A step computes while another waits for data",
    31: "Results are reused where nothing changed",
}
"""Requirements on the task framework (DMS-MWST-REQ), in our words."""


def titles() -> dict[str, str]:
    """Every requirement, in order."""
    found = {f"DMS-MWBT-REQ-{number:04d}": title for number, title in MWBT.items()}
    found.update({f"DMS-MWST-REQ-{number:04d}": title for number, title in MWST.items()})
    return found


def _marks(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Arguments of all ``pytest.mark.req(...)`` inside some expressions."""
    for top in nodes:
        for node in ast.walk(top):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "req":
                for argument in node.args:
                    if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
                        raise ValueError(f"line {node.lineno}: the mark 'req' takes requirement numbers as text")
                    yield argument.value


def _marks_of_body(body: Iterable[ast.stmt]) -> set[str]:
    """Marks by ``pytestmark = ...`` of a module or a class."""
    return set(
        _marks(
            statement.value
            for statement in body
            if isinstance(statement, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in statement.targets)
        )
    )


def _tests(body: Iterable[ast.stmt], outer: set[str], prefix: str) -> Iterator[tuple[str, set[str]]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield prefix + node.name, outer | set(_marks(node.decorator_list))
        elif isinstance(node, ast.ClassDef):
            marks = outer | set(_marks(node.decorator_list)) | _marks_of_body(node.body)
            yield from _tests(node.body, marks, f"{prefix}{node.name}::")


def marked_tests(source: str) -> Iterator[tuple[str, set[str]]]:
    """Names of the tests in a module, each with the requirements that it shows."""
    body = ast.parse(source).body
    yield from _tests(body, _marks_of_body(body), "")


def collect(directory: Path) -> dict[str, list[str]]:
    """Tests by requirement, below a directory.

    Raises
    ------
    ValueError
        A mark names a requirement that does not exist.
    """
    known = titles()
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted(directory.rglob("test_*.py")):
        name = file.relative_to(directory.parent).as_posix()
        for test, requirements in marked_tests(file.read_text(encoding="utf-8")):
            for requirement in requirements:
                if requirement not in known:
                    raise ValueError(f"{name}::{test} is marked with {requirement!r}, which does not exist")
                found[requirement].append(f"{name}::{test}")
    return dict(found)


def page(found: Mapping[str, list[str]]) -> str:
    """Write the page."""
    everything = titles()
    shown = [number for number in everything if found.get(number)]
    lines = [
        "# Requirements and the tests that show them",
        "",
        "Generated from the marks `@pytest.mark.req(...)` in the tests by",
        "`python -m tests.docs.requirements_page --write`; a test fails while this page is out of date. The numbers",
        "are those of LDM-556, the middleware requirements of the Rubin Observatory; the titles are in our words.",
        "**A requirement may need more than the tests that are listed show.**",
        "",
        f"{len(shown)} of {len(everything)} requirements have tests; {len(everything) - len(shown)} have none yet.",
    ]
    for heading, prefix in (("Data access", "DMS-MWBT-REQ-"), ("Task framework", "DMS-MWST-REQ-")):
        lines += ["", f"## {heading}", "", "| requirement | what it asks | tests |", "|---|---|---|"]
        for number, title in everything.items():
            if number.startswith(prefix):
                tests = "<br>".join(f"`{test}`" for test in found.get(number, ())) or "none yet"
                lines.append(f"| {number} | {title} | {tests} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    text = page(collect(ROOT / "tests"))
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
