# shellcheck shell=sh disable=SC2034
# What preinstall and postinstall share.

home='/Library/Application Support/Sallyport'
agent="$home/bin/sallyport"
previous="$home/previous"

# All that the package brings, and nothing else.
brought() {
	cat <<-EOF
		$home/bin
		$home/uninstall
		/Library/LaunchDaemons/com.sallyport.agent.plist
		/Library/Security/SecurityAgentPlugins/Sallyport.bundle
		/Library/Security/Sallyport
	EOF
}

# The installer's log, /var/log/install.log, has what a script writes.
say() { printf 'sallyport: %s\n' "$*" >&2; }
fail() {
	say "$*"
	exit 1
}
