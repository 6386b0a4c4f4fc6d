# shellcheck shell=sh
# Before the files go. A line in a stack whose module is gone refuses everybody: the
# stacks come first, and where they cannot be undone nothing is removed.
# shellcheck source-path=SCRIPTDIR source=common.sh
. common.sh # build.sh puts it in the place of this line

# named prints where stacks name the module, as FILE:NUMBER:LINE; not in files that
# libpam never reads.
named() {
	grep -Hns '^[^#]*pam_sallyport' /etc/pam.conf /etc/pam.d/* /usr/lib/pam.d/* |
		grep -v -e '^[^:]*\.dpkg-[a-z]*:' -e '^[^:]*\.rpm[a-z]*:' -e '^[^:]*~:' -e '^[^:]*\.bak:'
}

refuse() {
	say "NOT REMOVED: without the module nobody could log in by these:"
	printf '%s\n' "$1" | sed 's/^/  /' >&2
	say "take the lines out and try again:"
	generated=
	for file in $(printf '%s\n' "$1" | cut -d: -f1 | sort -u); do
		case $(readlink "$file" || :) in
		/etc/authselect/*) generated=yes ;;
		*) echo "  sed -i '/pam_sallyport\|ingroup sallyport-breakglass/d' $file" >&2 ;;
		esac
	done
	[ -z "$generated" ] || refuse_generated >&2
	exit 1
}

# refuse_generated: what is changed in files that authselect made is gone when it makes
# them anew, and until then it may refuse to.
refuse_generated() {
	current=$(authselect current --raw 2>/dev/null) || current=
	case $current in
	custom/*) echo "  in /etc/authselect/${current%% *}, and then: authselect apply-changes" ;;
	*) echo "  authselect select PROFILE --force    # it makes system-auth and password-auth; now: ${current:-unknown}" ;;
	esac
}

# undo_stacks first looks at what people wrote: nothing is half undone.
undo_stacks() {
	written=$(named | grep -v -e '^/etc/pam\.d/common-' -e '^/etc/pam\.d/[a-z]*-auth:') || :
	[ -z "$written" ] || refuse "$written"
	! command -v pam-auth-update >/dev/null || pam-auth-update --package --remove sallyport sallyport-breakglass
	if command -v authselect >/dev/null; then
		current=$(authselect current --raw 2>/dev/null) || current=
		for base in $bases; do
			[ "${current%% *}" = "$(profile "$base")" ] || continue
			features=$(printf '%s\n' "$current" | tr ' ' '\n' | grep -v sallyport) || :
			# shellcheck disable=SC2086 # one word each
			authselect select "$base" $features >&2 || say "authselect does not go back to the profile $base; see what it says above"
		done
	fi
	written=$(named) || :
	[ -z "$written" ] || refuse "$written"
}

# keep_for_purge: dpkg does not say whether one will follow, now or ever.
keep_for_purge() {
	grep -qs '"tpm_counter":[1-9]' "$state"/keychain/record.json || return 0
	rm -rf "$wiping"
	{ mkdir -m 0700 "$wiping" && cp -a "$program" "$wiping" && cp -a /etc/sallyport "$wiping/etc"; } || say "a purge will leave the TPM's counter: $wiping cannot be written"
}

case ${1-} in
remove | 0)
	undo_stacks
	stop
	[ "$1" = 0 ] || keep_for_purge # rpm has no purge
	! command -v systemctl >/dev/null || systemctl disable --quiet sallyport.service || :
	;;
esac
