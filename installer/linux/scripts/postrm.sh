# shellcheck shell=sh
# The files are gone. The state stays, for a later installation, until a purge.
# shellcheck source-path=SCRIPTDIR source=common.sh
. common.sh # build.sh puts it in the place of this line
case ${1-} in
remove | 0)
	! booted || systemctl daemon-reload
	rm -rf /run/sallyport "$previous" "$previous.part"
	for base in $bases; do
		rm -rf "${profiles:?}/$(profile "$base")"
	done
	# Last: the stacks are undone and the agent is gone.
	selinux -r sallyport
	;;
purge)
	if [ -x "$wiping/sallyport" ]; then
		rm -rf /etc/sallyport # dpkg left what it does not know
		[ ! -d "$wiping/etc" ] || cp -a "$wiping/etc" /etc/sallyport
		timeout 60 "$wiping/sallyport" vault wipe --yes >/dev/null || say "the TPM's counter of 8 bytes is left in it; it holds no secret"
	fi
	# On most disks overwriting is no promise; that the files go is.
	for dir in "$state" "$previous" "$previous.kept"; do
		[ ! -d "$dir" ] || find "$dir" -xdev -type f -exec shred --remove {} + || :
	done
	rm -rf "$state" "$previous" "$previous.part" "$previous.kept" "$wiping" /etc/sallyport /run/sallyport
	;;
esac
