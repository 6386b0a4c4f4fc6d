#!/bin/bash
# boot-authority.sh DIR: installs the authority in DIR as a service, as its
# package would, and boots systemd, which runs the checks below and writes what it
# finds into DIR.
set -eu
dir=$1
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd || mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd/system
install "$dir/sallyport-authority" /usr/sbin/sallyport-authority
install -m 644 "$dir/sallyport-authority.service" /etc/systemd/system/
install -m 644 "$dir/sallyport-authority.sysusers" /etc/sysusers.d/sallyport-authority.conf 2>/dev/null ||
	install -D -m 644 "$dir/sallyport-authority.sysusers" /usr/lib/sysusers.d/sallyport-authority.conf
systemd-sysusers
# Port 443: the account may bind it.
sallyport-authority init --name Test --origin https://localhost --device-host localhost >"$dir/init" 2>&1

cat >/root/check.sh <<'CHECK'
dir=$1
exec 2>>"$dir/errors"
wait_healthy() { for _ in $(seq 600); do sallyport-authority status --json >"$1" && return; sleep 0.1; done; }
systemctl is-active sallyport-authority >"$dir/active"
wait_healthy "$dir/status"
ps -o user:24= -C sallyport-authority >"$dir/user"
# Root's commands beside the server leave it able to write.
sallyport-authority user add maya --json >"$dir/added"
sallyport-authority token create --user maya --json | sed 's/sallyport1\.[^"]*//' >"$dir/token"
stat -c '%a %U %n' /var/lib/sallyport-authority /var/lib/sallyport-authority/authority.db* /var/lib/sallyport-authority/keys/* >"$dir/modes"
systemctl show -p SystemCallErrorNumber -p NoNewPrivileges sallyport-authority >"$dir/sandbox"
systemctl kill -s KILL sallyport-authority
wait_healthy "$dir/again"
systemctl show -p NRestarts sallyport-authority >"$dir/killed"
# Started by root while the server is down, then by the server again.
systemctl stop sallyport-authority
sallyport-authority user add noah --json >"$dir/down"
systemctl start sallyport-authority
wait_healthy "$dir/restarted"
sallyport-authority events >"$dir/events"
journalctl --sync # what was written may still be on its way
journalctl -u sallyport-authority --no-pager >"$dir/journal"
CHECK

cat >/etc/systemd/system/check.service <<UNIT
[Unit]
After=sallyport-authority.service
Wants=sallyport-authority.service
[Service]
Type=oneshot
ExecStart=/bin/bash /root/check.sh $dir
ExecStopPost=/bin/systemctl poweroff -ff
UNIT
mount --make-rshared /
exec unshare --pid --fork --kill-child --mount-proc --mount --propagation shared \
	env container=other /lib/systemd/systemd --system --unit=check.service
