"""Prints the completion of commands and flags for a shell: bash, zsh or fish.

    eval "$(posenet-jax completion bash)"                   # in ~/.bashrc
    eval "$(posenet-jax completion zsh)"                    # in ~/.zshrc, after compinit
    posenet-jax completion fish | source                    # in ~/.config/fish/config.fish

The shell asks `posenet-jax completion words` for the commands and `posenet-jax completion words
COMMAND` for a command's flags when they are wanted, so that nothing has to be printed anew later.
"""

import contextlib
import io
import re
import sys

from .common import commands

# After `=` stands a value: files, as for any program.
_SHELLS = {
    "bash": """\
_posenet_jax() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} name=
    if [[ $word == = || $before == = ]]; then
        return
    fi
    if (( COMP_CWORD > 1 )); then
        name=${COMP_WORDS[1]}
    fi
    COMPREPLY=($(compgen -W "$(posenet-jax completion words $name 2>/dev/null)" -- "$word"))
    if [[ ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o default -F _posenet_jax posenet-jax
""",
    "zsh": """\
_posenet_jax() {
    local name='' suffix=' '
    if compset -P '*='; then
        _files
        return
    fi
    if (( CURRENT > 2 )); then
        name=$words[2]
        suffix=''
    fi
    compadd -S "$suffix" -- $(posenet-jax completion words $name 2>/dev/null)
}
compdef _posenet_jax posenet-jax
""",
    "fish": """\
complete -c posenet-jax -n __fish_use_subcommand -f -a '(posenet-jax completion words)'
complete -c posenet-jax -n 'not __fish_use_subcommand' \\
    -a '(posenet-jax completion words (commandline -opc)[2] 2>/dev/null)'
""",
}


def _flags(command: str) -> list[str]:
    """Returns a command's flags, as its help lists them; with `=` where a value follows."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        commands.run(command, ["--help"])
    found = re.findall(r"^ +--(\[no\])?(\w+):", told.getvalue(), re.MULTILINE)
    return [f"--{name}{'' if switch else '='}" for switch, name in found]


def main() -> int:
    """Prints, and returns the exit code."""
    given, known = sys.argv[1:], commands.listed()
    if given == ["--help"]:
        print(__doc__)
    elif given == ["words"]:
        print(*known, sep="\n")
    elif len(given) == 2 and given[0] == "words" and given[1] in known:
        print(*_flags(given[1]), sep="\n")
    elif len(given) == 1 and given[0] in _SHELLS:
        print(_SHELLS[given[0]], end="")
    else:
        print(f"error: name a shell: {', '.join(_SHELLS)}; see --help", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
