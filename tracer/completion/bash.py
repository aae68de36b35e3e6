"""Completions for bash; of bash-completion they take what there is."""

from __future__ import annotations

from collections.abc import Sequence

from tracer.completion.model import Command, Kind, Word

_HEAD = r"""# Completions of twtrace for bash, made by `twtrace completions bash`.

_twtrace_words() {
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}

_twtrace_files() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$current")
}

_twtrace_netns() {
	case $current in
	*/*) _twtrace_files ;;
	*)
		mapfile -t COMPREPLY < <(compgen -f -- "/run/netns/$current")
		COMPREPLY=("${COMPREPLY[@]#/run/netns/}")
		;;
	esac
}

# The words from index $1 on are a command line of their own.
_twtrace_another() {
	if declare -F _comp_command_offset >/dev/null; then
		_comp_command_offset "$1"
	elif declare -F _command_offset >/dev/null; then
		_command_offset "$1"
	elif ((COMP_CWORD == $1)) && [[ $current != */* ]]; then
		mapfile -t COMPREPLY < <(compgen -c -- "$current")
	else
		_twtrace_files
	fi
}

_twtrace() {
	local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=live at
	COMPREPLY=()
	# --option=value is three words here
	if [[ $current == = ]]; then
		current=
	elif [[ $before == = ]]; then
		before=${COMP_WORDS[COMP_CWORD - 2]}
	fi
"""

_TAIL = r"""}

complete -F _twtrace twtrace
"""


def script(commands: Sequence[Command]) -> str:
    """The script to be sourced."""
    names = [command.name for command in commands]
    lines = [
        "\tif ((COMP_CWORD > 1)); then",
        "\t\tcase ${COMP_WORDS[1]} in",
        f"\t\t{' | '.join(names)}) command=${{COMP_WORDS[1]}} ;;",
        "\t\tesac",
        "\tfi",
    ]
    for command in commands:
        if command.runs_another:
            lines += [
                f"\tif [[ $command == {command.name} ]]; then",
                "\t\tfor ((at = 2; at < COMP_CWORD; at++)); do",
                "\t\t\tif [[ ${COMP_WORDS[at]} == -- ]]; then",
                "\t\t\t\t_twtrace_another $((at + 1))",
                "\t\t\t\treturn",
                "\t\t\tfi",
                "\t\tdone",
                "\tfi",
            ]
    lines.append("\tcase $command:$before in")
    for command in commands:
        for option in command.options:
            if option.kind is not Kind.NONE:
                patterns = " | ".join(f"{command.name}:{name}" for name in option.names)
                lines.append(f"\t{patterns})\n\t\t{_propose(option)}\n\t\treturn\n\t\t;;")
    lines += ["\tesac", "\tcase $command:$current in"]
    for command in commands:
        options = [name for option in command.options for name in option.names]
        more = ["--"] if command.runs_another else []
        lines.append(f'\t{command.name}:-*) _twtrace_words "{" ".join(options + more)}" ;;')
        if command.arguments:
            lines.append(f"\t{command.name}:*) {_propose(command.arguments[0])} ;;")
    lines += [
        "\tesac",
        "\tif ((COMP_CWORD == 1)) && [[ $current != -* ]]; then",
        f'\t\t_twtrace_words "{" ".join(names)}"',
        "\tfi",
    ]
    return _HEAD + "\n".join(lines) + "\n" + _TAIL


def _propose(word: Word) -> str:
    if word.kind is Kind.WORDS:
        return f'_twtrace_words "{" ".join(word.choices)}"'
    if word.kind is Kind.FILES:
        return "_twtrace_files"
    if word.kind is Kind.NETNS:
        return "_twtrace_netns"
    return ":"
