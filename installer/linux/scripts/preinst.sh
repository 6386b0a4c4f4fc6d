# shellcheck shell=sh
# Before the files come: an upgrade keeps what is there. The agent runs on meanwhile.
# shellcheck source-path=SCRIPTDIR source=common.sh
. common.sh # build.sh puts it in the place of this line
case ${1-} in
install | upgrade | 1 | 2)
	# "sallyport service install" wrote it, for an agent elsewhere; it would hide ours.
	if [ -f /etc/systemd/system/sallyport.service ]; then
		say "NOT INSTALLED: an agent was installed by hand. Take it away first, its state stays: sallyport service stop; sallyport service uninstall"
		exit 1
	fi
	;;
esac

case ${1-} in
upgrade | 2)
	# What an upgrade that was cut short has kept is the last that is known to work.
	[ ! -d "$previous" ] || exit 0
	rm -rf "$previous.part"
	mkdir -m 0700 "$previous.part"
	# One that hangs, or is started again and again, is one that is wanted.
	case $(systemctl is-active sallyport.service 2>/dev/null || :) in
	active | activating | reloading) : >"$previous.part/running" ;;
	esac
	case $(asked || :) in *'"running":true,'*'"vault":{"state":"open",'*) : >"$previous.part/open" ;; esac
	{ timeout 5 "$program" version || echo 'sallyport unknown'; } 2>/dev/null | cut -d' ' -f2 >"$previous.part/version"
	mkdir "$previous.part/files"
	for file in $kept; do
		[ ! -e "$file" ] || cp -a --parents "$file" "$previous.part/files"
	done
	# There whole or not at all.
	sync
	mv "$previous.part" "$previous"
	;;
esac
