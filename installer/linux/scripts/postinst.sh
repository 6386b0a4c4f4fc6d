# shellcheck shell=sh
# The files are there. An upgrade ends here or is taken back here.
# shellcheck source-path=SCRIPTDIR source=common.sh
. common.sh # build.sh puts it in the place of this line

# bring_back puts the kept files in their places. Each by a rename: what is in use must
# not be written to.
bring_back() {
	for file in $kept; do
		[ -e "$previous/files$file" ] || continue
		cp -a "$previous/files$file" "$file.sallyport-previous" && mv -f "$file.sallyport-previous" "$file" || return 1
	done
}

# take_back restores the version before. Its state is put back only where the old agent
# cannot go on with what the new one has left: an older state gives used codes a
# second life.
take_back() {
	old=$(cat "$previous/version")
	systemctl stop sallyport.service || :
	bring_back || {
		say "the files of $old do not come back; they are kept in $previous"
		exit 1
	}
	start
	if answers "$old"; then
		say "THE UPGRADE WAS TAKEN BACK: $old is in place again and answers, with the state of now"
	else
		systemctl stop sallyport.service || :
		if [ -d "$previous/state" ]; then
			# Not the directory itself: it may be a mount point.
			find "$state" -mindepth 1 -delete
			cp -a "$previous/state/." "$state/"
		fi
		start
		# Where the key is in a TPM, that has counted on: this state is meant.
		if answers "$old" || { timeout 20 "$program" vault accept >/dev/null 2>&1 && answers "$old"; }; then
			say "THE UPGRADE WAS TAKEN BACK: $old is in place again and answers, with its state from before the upgrade"
		else
			say "$old is in place again and DOES NOT ANSWER EITHER: whoever is asked for a code cannot log in. See: sallyport doctor"
			rm -rf "$previous.kept"
			mv "$previous" "$previous.kept"
			say "its programs and its state from before the upgrade are kept in $previous.kept"
			exit 1
		fi
	fi
	rm -rf "$previous"
	say "install another version, or this one again once its reason is mended: journalctl -u sallyport"
	exit 1
}

upgrade() {
	if [ ! -e "$previous/running" ]; then
		say "the agent did not run before the upgrade, so it is not started"
		systemctl daemon-reload
		rm -rf "$previous"
		return
	fi
	systemctl stop sallyport.service || :
	# Of a stopped agent: a copy of a vault in use may be torn.
	# The first copy counts, if an upgrade that was cut short goes on here.
	if [ -d "$state" ] && [ ! -d "$previous/state" ]; then
		rm -rf "$previous/state.part"
		{ cp -a "$state" "$previous/state.part" && mv "$previous/state.part" "$previous/state"; } || {
			say "the state cannot be kept (is the disk full?), so nothing is upgraded"
			take_back
		}
	fi
	start
	answers "$version" || {
		say "the new agent does not answer within 10 seconds; what it said last:"
		log
		take_back
	}
	rm -rf "$previous"
}

install() {
	systemctl daemon-reload
	systemctl enable --quiet sallyport.service || say "the service is not enabled (masked?)"
	start
	answers "$version" || {
		case $("$program" version 2>/dev/null || :) in
		"sallyport $version "*) say "the agent does not answer within 10 seconds; no stack names it yet, so everybody logs in as before. What it said last:" && log ;;
		*) say "the programs here are not of $version: an upgrade was taken back. Install this or another version anew" ;;
		esac
		exit 1
	}
}

# make_profiles makes authselect's profiles "sallyport" and "sallyport-..." out of this
# system's own: all is as there, but for the auth lines.
make_profiles() {
	[ -e /usr/share/sallyport/auth-lines ] || return 0
	for base in $bases; do
		from=/usr/share/authselect/default/$base
		to=$profiles/$(profile "$base")
		[ ! -d "$from" ] || make_profile
	done
	case $(authselect current --raw 2>/dev/null || :) in
	sallyport | sallyport' '* | sallyport-*) authselect apply-changes >&2 || say "authselect does not apply the new profile; see: authselect check" ;;
	esac
}

# make_profile makes the one of $base in $to. Who else than pam_unix knows passwords
# differs.
make_profile() {
	case $base in
	sssd) other= ;;
	winbind) other='s/pam_sss\.so/pam_winbind.so {if "with-krb5":krb5_auth}/' ;;
	*) other='/pam_sss\.so/d; s/success=2/success=1/' ;;
	esac
	rm -rf "$to.part"
	mkdir -p "$to.part"
	cp "$from"/* "$to.part"
	for file in system-auth password-auth; do
		{
			sed "$other" /usr/share/sallyport/auth-lines
			sed '/^-\{0,1\}auth[[:space:]]/d' "$from/$file"
		} >"$to.part/$file"
	done
	# Our lines ask for a password, so that it must be unknown here.
	sed -i -e '/{imply .*"with-smartcard-required"}/d' -e '/{include if "with-smartcard-required"}/d' \
		-e 's/{if "with-smartcard-required":[^|}]*|\([^}]*\)}/\1/' -e 's/{if "with-smartcard-required":[^}]*}//' "$to.part"/*
	{
		printf 'Sallyport: a second factor after the password, on top of the profile %s\n\n' "$base"
		printf 'with-sallyport-breakglass:: Members of the group sallyport-breakglass need no second factor at the console.\n\n'
		cat "$from/README"
	} >"$to.part/README"
	rm -rf "$to"
	mv "$to.part" "$to"
}

case ${1-} in
configure | 1 | 2)
	# Before the start, which labels the sockets' directory.
	selinux -i "$selinux_module"
	rm -rf "$wiping"
	if ! booted || ! allowed; then
		! command -v systemctl >/dev/null || systemctl enable --quiet sallyport.service || :
		rm -rf "$previous"
	elif [ -d "$previous" ]; then
		upgrade
	else
		install
	fi
	# Makes the stacks anew if the profile is on. It never switches it on by itself:
	# "Default: no".
	! command -v pam-auth-update >/dev/null || pam-auth-update --package
	make_profiles
	;;
abort-upgrade | abort-remove | abort-deconfigure)
	rm -rf "$previous" "$previous.part" "$wiping"
	! booted || ! allowed || systemctl --quiet is-active sallyport.service || ! systemctl --quiet is-enabled sallyport.service || start
	;;
esac
