"""Completion in bash, which splits words at ``=`` and ``:`` and replaces only what is behind these."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

# Not the array of words, in which bash has split; that only says what bash will replace.
_SOURCE = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local response type value

    response=$(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORD="${COMP_WORDS[COMP_CWORD]}" \
%(complete_var)s=bash_complete $1)

    while IFS=',' read -r type value; do
        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("$value")
        fi
    done <<< "$response"
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace
    fi

    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class SplittingBash(BashComplete):
    """Bash, told of the whole line, and given back what it replaces."""

    source_template: ClassVar[str] = _SOURCE

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is completed, and that one."""
        self._kept = ""
        line = os.environ.get("COMP_LINE")
        if line is None:
            return super().get_completion_args()
        word = os.environ.get("COMP_WORD", "")
        words = split_arg_string(line)
        # Behind a space that no quotes enclose, a new word begins.
        incomplete = words.pop() if word and words else ""
        if not word.startswith(("'", '"')):
            replaced = "" if word in ("=", ":") else word
            if incomplete.endswith(replaced):
                self._kept = incomplete[: len(incomplete) - len(replaced)]
        return words[1:], incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Write a candidate without what bash keeps."""
        return f"{item.type},{str(item.value).removeprefix(self._kept)}"


def register() -> None:
    """Let click complete in bash by this."""
    add_completion_class(SplittingBash)
