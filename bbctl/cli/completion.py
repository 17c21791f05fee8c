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
    # Bash breaks words at @ = : too. What is glued to the word is asked for with it, and given back less what stays typed.
    local IFS=$'\\n' piece="${COMP_WORDS[COMP_CWORD]}" line="${COMP_LINE:0:COMP_POINT}" at=$COMP_CWORD word head
    local whole="${line##*[[:space:]]}"
    word=$piece
    while [[ $word != "$whole" && $whole == *"$word" && $at -gt 1 ]]; do
        at=$((at - 1)) word="${COMP_WORDS[at]}$word"
    done
    if [[ $word != "$whole" ]]; then word=$piece at=$COMP_CWORD; fi
    head="${word%"$piece"}"
    case $piece in [=:]) head=$word;; esac
    head="${head%@}"
    COMPREPLY=($(bbctl __complete "${COMP_WORDS[@]:1:at-1}" "$word" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$head"}")
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
