#compdef taskerctl
# taskerctl(1) completion for zsh. What may be written where, taskerctl itself knows: this only asks it.

_taskerctl()
{
	local line value files
	local -a given lines values shown
	given=("${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")
	lines=("${(@f)$("${(Q)words[1]/#\~\//$HOME/}" __complete -- "${given[@]}" 2> /dev/null)}")
	for line in "${lines[@]}"; do
		value=${line%%$'\t'*}
		case $value in
			:files) files=_files ;;
			:dirs) files=_directories ;;
			?*)
				values+=("$value")
				[[ $line == *$'\t'?* ]] && shown+=("$value  -- ${line#*$'\t'}") || shown+=("$value")
				;;
		esac
	done
	(( ${#values} )) && compadd -l -d shown -- "${values[@]}"
	[[ -n $files ]] && { compset -P '--*='; $files }
	return 0
}

# Read as a file of $fpath, or by `source <(taskerctl completion zsh)`.
if [[ $funcstack[1] == _taskerctl ]]; then
	_taskerctl "$@"
else
	compdef _taskerctl taskerctl
fi
