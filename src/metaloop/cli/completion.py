"""``metaloop completion``: scripts that complete commands, groups, options, keys and runs in a shell."""

from collections.abc import Sequence
from pathlib import Path

from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean

_BASH = """\
_metaloop() {
    local line="${COMP_LINE:0:COMP_POINT}" words current before candidate
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    current="${words[${#words[@]}-1]}"
    COMPREPLY=()
    while IFS= read -r candidate; do COMPREPLY+=("$candidate"); done \\
        < <("${words[0]}" completion --complete "${words[@]:1}" 2>/dev/null)
    if [[ "$current" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        before="${current%"${current##*=}"}"
        COMPREPLY=("${COMPREPLY[@]#"$before"}")
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *[=.] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o bashdefault -o default -F _metaloop metaloop
"""
_ZSH = """\
#compdef metaloop
_metaloop() {
    local -a candidates
    candidates=(${(f)"$("${words[1]}" completion --complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#candidates )); then compadd -S '' -- $candidates; else _files; fi
}
if [[ "${funcstack[1]}" == _metaloop ]]; then _metaloop "$@"; else compdef _metaloop metaloop; fi
"""
_FISH = """\
function __metaloop_complete
    set -l words (commandline -opc) (commandline -ct)
    metaloop completion --complete $words[2..-1] 2>/dev/null
end
complete -c metaloop -a '(__metaloop_complete)'
"""
SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_RUNS = ("run", "resume", "model")  # keys whose values are folders of runs
_OVERRIDES = ("train", "evaluate", "sweep", "reproduce")
_OF_RUNS = ("inspect", "report", "compare")
_WORDS = {
    "data": ("status", "get", "verify"),
    "completion": tuple(SHELLS),
    "wandb": ("sync",),
    "new": ("learner",),
    "study": ("number", "reuse", "minutes"),
    "play": ("run=", "task=", "gif="),
    "predict": tuple(
        f"{key}="
        for key in (
            "run",
            "model",
            "support",
            "query",
            "text",
            "path",
            "label",
            "rank",
            "ask",
            "rule",
            "steps",
            "alarm_rate",
            "out",
            "save",
        )
    ),
}


def script(shell: str) -> str:
    """The completion script of a shell.

    Raises:
        UserError: the shell is unknown.
    """
    if shell not in SHELLS:
        raise UserError(f"completion {shell}: {did_you_mean(shell, SHELLS)}shells: {', '.join(SHELLS)}")
    return SHELLS[shell]


def candidates(words: Sequence[str], commands: Sequence[str]) -> list[str]:
    """What the last word may become.

    Args:
        words: Words after ``metaloop``; the last one is being typed and may be empty.
        commands: Names of the commands.
    """
    *before, current = words or [""]
    if not before:
        return _beginning(current, [*commands, "--help", "--version"])
    command = before[0]
    key, equals, _ = current.partition("=")
    if equals and key in _RUNS:
        return _beginning(current, [f"{key}={run}" for run in _run_folders()])
    if command == "list":
        return _beginning(current, _groups() if len(before) == 1 else _options(before[1]))
    if command in _OF_RUNS:
        return _beginning(current, _run_folders())
    if command in _OVERRIDES:
        return _beginning(current, _overrides(command, before[1:], current))
    return _beginning(current, commands if command == "help" else _WORDS.get(command, ()) if len(before) < 2 else ())


def _beginning(current: str, names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(current)})


def _groups() -> list[str]:
    from metaloop.config.folder import conf_dir

    return sorted({path.parent.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*/*.yaml")})


def _options(group: str) -> list[str]:
    from metaloop.config.folder import conf_dir

    folder = conf_dir() / group
    folder = folder if folder.is_dir() else conf_dir() / group.removesuffix("s")
    return [path.stem for path in folder.glob("*.yaml")]


def _overrides(command: str, given: Sequence[str], current: str) -> list[str]:
    """Groups with their options, and keys; keys of sections only where a dot asks for them, since that needs a composition."""
    key, equals, _ = current.partition("=")
    if equals:
        return [f"{key}={option}" for option in _options(key)]
    if "." in key:
        return _keys(given)
    first = [f"{group}=" for group in _groups() if group != "sweep"]
    first += ["trainer.", "validation.", "evaluation.", "seed=", "name=", "run=" if command == "evaluate" else "resume="]
    return first + (_options("sweep") if command == "sweep" and not given else [])


def _keys(given: Sequence[str]) -> list[str]:
    """All keys of the composition with the groups that were given."""
    from metaloop.config.composition import composer
    from metaloop.config.words.override_values import flatten

    groups = set(_groups())
    with composer("train", [], []) as hydra:
        leaves = flatten(hydra.compose([word for word in given if word.partition("=")[0] in groups and "," not in word]))
    return [f"{key}=" for key, value in leaves.items() if not isinstance(value, dict) and not key.startswith("hydra")]


def _run_folders() -> list[str]:
    return [path.parent.as_posix() for path in Path("outputs").glob("*/*/run.json")]
