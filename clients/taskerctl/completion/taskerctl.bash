# taskerctl(1) completion for bash. What may be written where, taskerctl itself knows: this only asks it.

_taskerctl()
{
	local cur words cword value files="" breaks before=""
	if declare -F _get_comp_words_by_ref > /dev/null; then
		_get_comp_words_by_ref -n "=:@" cur words cword
	else
		cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
	fi
	# Readline replaces only what stands behind the last character that breaks words.
	breaks=${COMP_WORDBREAKS//[^=:@]/}
	[[ -n $breaks && $cur == *["$breaks"]* ]] && before=${cur%"${cur##*["$breaks"]}"}
	COMPREPLY=()
	while IFS=$'\t' read -r value _; do
		case $value in
			:files) files=-f ;;
			:dirs) files=-d ;;
			?*) COMPREPLY+=("${value#"$before"}") ;;
		esac
	done < <("${words[0]/#~\//$HOME/}" __complete -- "${words[@]:1:cword}" 2> /dev/null)
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
