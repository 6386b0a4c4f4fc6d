# shellcheck shell=sh disable=SC2034
# What preinstall and postinstall share.

home='/Library/Application Support/Sallyport'
agent="$home/bin/sallyport"
bundle=/Library/Security/SecurityAgentPlugins/Sallyport.bundle
daemon=system/com.sallyport.agent

# The package brings all of its files into incoming, where nothing runs. previous has
# what was there before, from preinstall to postinstall's end; in it, "nothing" says
# that nothing was, and "begun" that postinstall has begun to change things.
incoming="$home/incoming"
previous="$home/previous"

# Each goes to its place by rename(2), so that a whole one is there at every moment;
# and so does the plug-in, by `sallyport authdb place`.
files='uninstall pam_sallyport.so.2 com.sallyport.agent.plist sallyport'
place_of() {
	case $1 in
	uninstall) echo "$home/uninstall" ;;
	pam_sallyport.so.2) echo /Library/Security/Sallyport/pam_sallyport.so.2 ;;
	com.sallyport.agent.plist) echo /Library/LaunchDaemons/com.sallyport.agent.plist ;;
	sallyport) echo "$agent" ;;
	esac
}

# bring FOLDER puts the files of a folder in their places.
bring() {
	for file in $files; do
		[ ! -e "$1/$file" ] || mv -f "$1/$file" "$(place_of "$file")" || return 1
	done
}

# bring_back restores what previous has. The plug-in is exchanged for a copy: cut short
# and done again, an exchange with previous itself would bring the new one back.
bring_back() {
	if [ -d "$previous/Sallyport.bundle" ] && ! diff -rq "$previous/Sallyport.bundle" "$bundle" >/dev/null 2>&1; then
		rm -rf "$home/returning"
		mkdir -m 0700 "$home/returning" && cp -Rp "$previous/Sallyport.bundle" "$home/returning/" || return 1
		"$agent" authdb place "$home/returning/Sallyport.bundle" || say "the newer plug-in stays: it is fit for use, and the one before is not"
		rm -rf "$home/returning"
	fi
	bring "$previous"
}

# named: a right names our plug-in, or it cannot be told. (uninstall, which stands alone, has the same.)
named() {
	for right in system.login.console system.login.screensaver authenticate; do
		text=$(security authorizationdb read "$right" 2>/dev/null) || return 0
		case $text in *Sallyport:*) return 0 ;; esac
	done
	return 1
}

# The installer's log, /var/log/install.log, has what a script writes.
say() { printf 'sallyport: %s\n' "$*" >&2; }
fail() {
	say "$*"
	exit 1
}
