# taskerctl(1) completion for fish. What may be written where, taskerctl itself knows: this only asks it.

function __taskerctl_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] __complete -- $words[2..-1] "$current" 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path "$current"
            case :dirs
                __fish_complete_directories "$current"
            case '*'
                echo $line
        end
    end
end

complete -c taskerctl -f -a '(__taskerctl_complete)'
