# shellcheck shell=sh disable=SC2034
# What the package's scripts share; build.sh puts it into each. dpkg calls
# them with a word (deb-preinst(5) and friends), rpm with the number of versions that
# will be there afterwards (rpm-scriptlets(7)).
set -eu
umask 022
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH

version='@VERSION@'
program=/usr/bin/sallyport
state=/var/lib/sallyport
# What an upgrade keeps until the new agent has answered: root's alone, for the
# state has the vault and its key.
previous=/var/lib/sallyport-previous
# What a purge needs to take back what the state has in a TPM: the program is gone by
# then, and the configuration, which names the TPM.
wiping=/var/lib/sallyport-purge
# What is kept of the programs. They and the module must be of one build.
kept="$program /usr/bin/sallyport-try @MODULE@ /usr/lib/systemd/system/sallyport.service"
# authselect's own profiles that ours are made of, and where ours are: authselect(8)
# calls what packages bring vendor's.
bases="sssd local minimal winbind nis"
profiles=/usr/share/authselect/vendor
selinux_module=/usr/share/selinux/packages/sallyport.cil

# profile BASE prints the name of the one that is made of it.
profile() { case $1 in sssd) echo sallyport ;; *) echo "sallyport-$1" ;; esac; }

say() { printf 'sallyport: %s\n' "$*" >&2; }

# booted: systemd runs here. In a container or an image that is being built it does
# not, and nothing is started.
booted() { [ -d /run/systemd/system ]; }

# allowed: Debian's way to say that no package may start anything (invoke-rc.d(8)).
allowed() {
	! command -v policy-rc.d >/dev/null || {
		policy=0
		policy-rc.d sallyport start >/dev/null 2>&1 || policy=$?
		[ "$policy" -ne 101 ]
	}
}

# asked prints what the agent says of itself, on one line.
asked() { timeout 5 "$program" status --json 2>/dev/null | tr -d ' \n'; }

# answers VERSION: within 10 seconds the agent is of that version; and where its vault
# was open before, it is open again: behind a closed one nobody gets in.
answers() {
	end=$(($(date +%s) + 10))
	while :; do
		said=$(asked) || :
		case $said in
		*"\"running\":true,\"version\":\"$1\","*)
			[ -e "$previous/open" ] || return 0
			case $said in *'"vault":{"state":"open",'*) return 0 ;; esac
			;;
		esac
		[ "$(date +%s)" -lt "$end" ] || return 1
		sleep 1
	done
}

# start does not wait for the agent to be ready: who cares asks it.
start() {
	systemctl daemon-reload
	systemctl reset-failed sallyport.service 2>/dev/null || :
	systemctl start --no-block sallyport.service
}

stop() { ! booted || systemctl stop sallyport.service; }

# selinux tells SELinux's policy, where there is one, of a change. Also where it is off: an image
# that is being made here may be enforcing elsewhere. It never fails, for neither does
# an agent without its module: it is doctor that says what is missing.
selinux() {
	[ -e /etc/selinux/config ] && command -v semodule >/dev/null || return 0
	timeout 300 semodule "$@" >&2 || say "SELinux's policy is not changed; once its reason is mended: semodule $*"
}

log() { journalctl --unit sallyport.service --lines 5 --no-pager --output cat 2>/dev/null | sed 's/^/  /' >&2 || :; }
