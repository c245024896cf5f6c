# taskerctl(1) completion for bash. What may be written where, taskerctl itself knows: this only asks it.

_taskerctl()
{
	local words=() cur value i rest=$COMP_LINE files="" breaks before=""
	# Bash breaks words at = : and @ as well: what stands together on the line is one.
	for ((i = 0; i <= COMP_CWORD; i++)); do
		if ((i > 0)) && [[ $rest != [[:blank:]]* && -n ${COMP_WORDS[i]} ]]; then
			words[-1]+=${COMP_WORDS[i]}
		else
			words+=("${COMP_WORDS[i]}")
		fi
		rest=${rest#"${rest%%[![:blank:]]*}"}
		rest=${rest#"${COMP_WORDS[i]}"}
	done
	cur=${words[-1]}
	# Readline replaces only what stands behind the last character that breaks words; an @ is itself replaced.
	breaks=${COMP_WORDBREAKS//[^=:@]/}
	[[ -n $breaks && $cur == *["$breaks"]* ]] && before=${cur%"${cur##*["$breaks"]}"}
	before=${before%@}
	COMPREPLY=()
	while IFS=$'\t' read -r value _; do
		case $value in
			:files) files=-f ;;
			:dirs) files=-d ;;
			?*) COMPREPLY+=("${value#"$before"}") ;;
		esac
	done < <("${words[0]/#~\//$HOME/}" __complete -- "${words[@]:1}" 2> /dev/null)
	if [[ -n $files ]]; then
		compopt -o filenames 2> /dev/null
		mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen "$files" -- "${cur#"$before"}")
	else
		for value in "${!COMPREPLY[@]}"; do
			printf -v "COMPREPLY[value]" %q "${COMPREPLY[value]}"
		done
	fi
}

complete -F _taskerctl taskerctl
