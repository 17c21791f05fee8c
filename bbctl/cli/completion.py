"""`bbctl completion`: a script for the shell, which asks `bbctl __complete` for words."""

from __future__ import annotations

from typing import Annotated

import typer

from bbctl.cli.complete import SHELLS
from bbctl.cli.front import Call
from bbctl.errors import UsageError
from bbctl.near import hint, shown

SCRIPTS = {
    "bash": """\
_bbctl() {
    local IFS=$'\\n' word="${COMP_WORDS[COMP_CWORD]}"
    COMPREPLY=($(bbctl __complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" "$word" 2>/dev/null))
}
complete -o default -F _bbctl bbctl
""",
    "zsh": """\
#compdef bbctl
_bbctl() {
    local -a found
    found=("${(@f)$(bbctl __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[*]}" ]]; then compadd -Q -a found; else _files; fi
}
if [[ "${funcstack[1]}" = _bbctl ]]; then _bbctl "$@"; else compdef _bbctl bbctl; fi
""",
    "fish": """\
function __bbctl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (bbctl __complete $words[2..-1] 2>/dev/null)
    if set -q found[1]
        string join \\n -- $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c bbctl -f -a '(__bbctl_complete)'
""",
}


def completion(
    ctx: typer.Context, shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="Which shell.")]
) -> None:
    """The completion script of your shell: commands, hosts, groups, playbooks, runs and workflow ids.

    \b
    Examples:
      source <(bbctl completion bash)                                 in ~/.bashrc
      bbctl completion zsh > ~/.zfunc/_bbctl                          with ~/.zfunc in fpath
      bbctl completion fish > ~/.config/fish/completions/bbctl.fish
    """
    call: Call = ctx.obj
    if shell not in SCRIPTS:
        raise UsageError(
            f"{shown(shell)} is none of {', '.join(SHELLS)}{hint(shell, SHELLS)}", next="bbctl completion bash"
        )
    call.show({"shell": shell, "script": SCRIPTS[shell]}, lambda: SCRIPTS[shell].rstrip("\n"), name="shell")
