# shellcheck shell=bash
# What bash offers behind "kernward": verbs, their options, kernels and services. It starts nothing of
# kernward's: a Python for each press of a key would be felt.

_kernward_verbs="inventory check plan repair timeline explain doctor status watch approve guard
    unguard hold release unhold history settings daemon"

_kernward_options() {
    local looking="--root --kernel --module --running-kernel --json --settings"
    case $1 in
        inventory | plan | timeline | explain | doctor) echo "$looking" ;;
        check) echo "$looking --nagios" ;;
        repair) echo "$looking --yes -y" ;;
        status) echo "--json" ;;
        guard) echo "--module --root --settings" ;;
        unguard) echo "--all" ;;
        hold) echo "--reason" ;;
        release) echo "--reason --for" ;;
        history) echo "--json --root --kernel --module --since --limit" ;;
        settings) echo "--json --root --settings" ;;
        daemon) echo "--settings" ;;
        "") echo "--version" ;;
    esac
    echo "--help -h"
}

_kernward_services() {
    systemctl list-unit-files --type=service --no-legend --no-pager 2>/dev/null |
        while read -r unit _; do echo "$unit"; done
}

_kernward_kernels() {
    local folder
    for folder in /lib/modules/*/; do
        # Where there is none the pattern stands for itself.
        [[ -d $folder ]] || continue
        folder=${folder%/}
        echo "${folder##*/}"
    done
}

_kernward() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb="" each words=""
    # The verb comes first, but for --version and --help.
    for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $each == -* ]] || { verb=$each && break; }
    done
    case $before in
        --kernel | --running-kernel) words=$(_kernward_kernels) ;;
        --root | --settings)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        --module | --reason | --for | --since | --limit) return ;;
        *)
            case $verb:$word in
                *:-*) words=$(_kernward_options "$verb") ;;
                :*) words=$_kernward_verbs ;;
                timeline:*) words=$(_kernward_kernels) ;;
                guard:* | unguard:* | hold:* | unhold:* | release:*) words=$(_kernward_services) ;;
            esac
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _kernward kernward
