# Completion of claudejob in fish.
function __claudejob_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    for line in (claudejob __complete $words[2..] "$typed" 2>/dev/null)
        if test "$line" = :files
            set -l option (string match -r -- '^--[^=]*=' "$typed")
            printf '%s\n' "$option"(__fish_complete_path (string replace -- "$option" '' "$typed"))
        else
            printf '%s\n' "$line"
        end
    end
end
complete -c claudejob -f -k -a '(__claudejob_complete)'
