# Completion of claudejob in bash 3.2 or newer.
_claudejob() {
    local words=() word typed prefix value help
    # bash splits words at "=" and ":".
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        if [[ ${#words[@]} -gt 0 && ($word == [=:]* || ${words[${#words[@]} - 1]} == *[=:]) ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
    done
    # bash replaces only the part after the last split.
    typed=${COMP_WORDS[COMP_CWORD]}
    [[ $typed == [=:] ]] && typed=
    prefix=${words[${#words[@]} - 1]%"$typed"}
    COMPREPLY=()
    while IFS=$'\t' read -r value help; do
        if [[ $value == :files ]]; then
            # bash 3.2 has no compopt.
            compopt -o default 2>/dev/null && return
            local IFS=$'\n'
            COMPREPLY=($(compgen -f -- "$typed"))
            return
        fi
        value=${value#"$prefix"}
        [[ $value == *[!A-Za-z0-9._,:=/@+-]* ]] && printf -v value %q "$value"
        COMPREPLY+=("$value")
    done < <(claudejob __complete "${words[@]}" 2>/dev/null)
}
complete -o nosort -F _claudejob claudejob 2>/dev/null || complete -F _claudejob claudejob
