"""Datasets' files in a directory, by their names in the mount (docs/decisions/0039-staging.md)."""

from pantry.client.staging.components import Components
from pantry.client.staging.describing import DescribedFile, describe_files
from pantry.client.staging.placing import Placer, Placing, StageTransfer, copy_content, hash_file, replaced_atomically
from pantry.client.staging.staging import Staged, export, stage

__all__ = [
    "Components",
    "DescribedFile",
    "Placer",
    "Placing",
    "StageTransfer",
    "Staged",
    "copy_content",
    "describe_files",
    "export",
    "hash_file",
    "replaced_atomically",
    "stage",
]
