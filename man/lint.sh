#!/bin/sh
# Manual pages as mandoc and groff read them: any complaint is a failure. Usage: lint.sh PAGE...
for program in mandoc groff; do
	if ! command -v $program >/dev/null; then
		echo "no $program: apt-get install mandoc groff-base"
		exit 77
	fi
done
complaints=$(
	for page; do
		mandoc -T lint -W warning "$page" | grep -v 'skipping paragraph macro'
		groff -man -Tutf8 -ww -z "$page" 2>&1
	done
)
[ -z "$complaints" ] || {
	echo "$complaints"
	exit 1
}
