# Completion of bmpctl for bash. The words of a command come from bmpctl itself.

_bmpctl() {
    local current="${COMP_WORDS[COMP_CWORD]}" index command="" takes_value=""
    for ((index = 1; index < COMP_CWORD; index++)); do
        case "$takes_value${COMP_WORDS[index]}" in
            value*) takes_value="" ;;
            --control | --file | -f | --command | -c) takes_value="value" ;;
            -*) ;;
            *) command+="${COMP_WORDS[index]} " ;;
        esac
    done
    case "${COMP_WORDS[COMP_CWORD - 1]}" in
        --control | --file | -f)
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
            ;;
        --command | -c) return ;;
    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--control --json --file --command --help --version" -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -W "$(bmpctl --complete "$command$current" 2>/dev/null)" -- "$current")
    fi
}

complete -F _bmpctl bmpctl
