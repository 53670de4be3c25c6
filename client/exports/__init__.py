"""Export files of the Gen3 Butler, read without trust (docs/decisions/0026-importing-exports.md).

`values` makes values of YAML, within limits and without any class that a file names; `contents` sorts them;
`migrations` brings those of old dimension universes up to date; `planning` compares them with a repository's
definitions and makes what the daemon is asked for; `files` finds the files.
"""
