#compdef claudejob
# Completion of claudejob in zsh.
_claudejob() {
    local value help
    local -a values
    while IFS=$'\t' read -r value help; do
        if [[ $value == :files ]]; then
            [[ $PREFIX == --*=* ]] && compset -P 1 '*='
            _files
            return
        fi
        values+=("${value//:/\\:}${help:+:$help}")
    done < <(claudejob __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    _describe -V claudejob values
}
# The file is either autoloaded as the function or sourced.
if [[ $funcstack[1] == _claudejob ]]; then
    _claudejob "$@"
else
    compdef _claudejob claudejob
fi
