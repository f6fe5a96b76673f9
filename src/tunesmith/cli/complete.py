"""Completion of the command line by the shell: verbs, flags, settings and their values.

    eval "$(tunesmith --completion bash)"        # zsh: the same with zsh; fish: tunesmith --completion fish | source

The shell calls `tunesmith --complete WORDS...` (the last word is the one being typed) and gets one candidate a line.
"""

import re
from collections.abc import Sequence

from tunesmith.api.config import catalogue
from tunesmith.cli.command import API, verbs
from tunesmith.core import source
from tunesmith.core.errors import SettingError
from tunesmith.core.names import unknown
from tunesmith.core.shelf import KINDS, shelf

_BASH = """\
_tunesmith() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}"
    local words=() word
    # split at blanks only: bash itself also splits at = and :, which are part of name=value
    read -r -a words <<< "${line// /$'\\n'}" -d ''
    [[ "$line" == *" " ]] && words+=("")
    COMPREPLY=($(tunesmith --complete "${words[@]:1}" 2>/dev/null))
    local last="${words[${#words[@]}-1]}"
    if [[ "$last" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${last%=*}="}")
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
complete -o default -F _tunesmith tunesmith
"""

_ZSH = """\
#compdef tunesmith
_tunesmith() {
    local -a found
    found=("${(@f)$(tunesmith --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then compadd -S '' -- "${found[@]}"; else _files; fi
}
compdef _tunesmith tunesmith
"""

_FISH = """\
complete -c tunesmith -a '(set -l words (commandline -opc) (commandline -ct); tunesmith --complete $words[2..-1] 2>/dev/null)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(shell: str) -> str:
    """What a shell has to run once to complete our words."""
    if shell not in _SCRIPTS:
        if not shell:
            raise SettingError("--completion needs the name of a shell.", fix=f"There are: {', '.join(_SCRIPTS)}")
        raise unknown("shell", shell, _SCRIPTS)
    return _SCRIPTS[shell]


def complete(words: Sequence[str]) -> list[str]:
    """Candidates for the last of the words after `tunesmith`. Nothing = the shell offers files.

    >>> complete(["tr"])
    ['train']
    >>> complete(["train", "adapter=l"])
    ['adapter=lora']
    """
    current = words[-1] if words else ""
    if len(words) <= 1:
        return _starting([*verbs(), "--help", "--version"], current)
    verb = words[0]
    if verb not in verbs():
        return []
    function = source.function(API / f"{verb}.py", verb)
    if "=" in current and not current.startswith("-"):
        name, _, text = current.partition("=")
        return [f"{name}={value}" for value in _starting(_values(name), text)]
    if current.startswith("-"):
        return _starting([*_flags(function), "--json", "--help"], current)
    if not current:
        return [] if function.keys else _words(verb)
    candidates = _starting(_words(verb), current)
    if function.keys:
        candidates += _starting([f"{name}=" for name in catalogue()], current)
    return candidates


def _words(verb: str) -> list[str]:
    """Names that the verbs for looking around take."""
    if verb == "list":
        return [*KINDS]
    if verb in ("where", "eject", "explain"):
        from tunesmith.api.explain import demos

        return [name for kind in KINDS for name in shelf(kind).names()] + (demos() if verb != "eject" else [])
    return []


def _flags(function: source.Function) -> list[str]:
    dashed = {field: f"--{field.name.replace('_', '-')}" for field in function.keyword}
    return [f"--no-{text[2:]}" if f.type == "bool" and f.default == "True" else text for f, text in dashed.items()]


def _values(name: str) -> list[str]:
    shelves = {"method": "objectives", "adapter": "adapters"}
    if name in shelves:
        return shelf(shelves[name]).names()
    if name == "model":
        return ["mini", "pico"]
    fields = catalogue()
    field = fields.get(name) or next((f for dotted, f in fields.items() if dotted.endswith(f".{name}")), None)
    if field is None:
        return []
    if re.match(r"bool\b", field.type):
        return ["true", "false"]
    return re.findall(r"'([^']+)'", field.type)


def _starting(words: Sequence[str], start: str) -> list[str]:
    return [word for word in words if word.startswith(start)]
