#!/bin/bash
# boot.sh DIR: installs the agent in DIR as a service and boots systemd, which
# runs the checks below and writes what it finds into DIR.
set -eu
dir=$1
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd || mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd/system
install "$dir/sallyport" /usr/sbin/sallyport
/usr/sbin/sallyport service install

cat >/root/check.sh <<'CHECK'
dir=$1
exec 2>>"$dir/errors"
wait_healthy() { for _ in $(seq 600); do sallyport status --json >"$1" && return; sleep 0.1; done; }
systemctl is-active sallyport >"$dir/active"
sallyport status --json >"$dir/status"
sallyport enroll root --no-confirm --json | sed 's/secret=[A-Z2-7]*//' >"$dir/enrolled"
stat -c '%a %n' /var/lib/sallyport /run/sallyport /run/sallyport/*.sock >"$dir/modes"
ls -A /etc/sallyport >"$dir/marker"
systemctl show -p SystemCallErrorNumber -p OOMScoreAdjust sallyport >"$dir/sandbox"
systemctl kill -s KILL sallyport
wait_healthy "$dir/again"
systemctl show -p NRestarts sallyport >"$dir/killed"
journalctl --sync # what was written may still be on its way
journalctl -u sallyport --no-pager >"$dir/journal"

# A new vault whose key is a systemd credential, as docs/linux.md sets it up.
systemctl stop sallyport
rm -rf /var/lib/sallyport /etc/sallyport/.sallyport.toml.vault
mkdir -p /etc/systemd/system/sallyport.service.d
head -c 32 /dev/urandom | systemd-creds encrypt --with-key=host --name=sallyport-vault-key - /etc/sallyport/vault-key.cred
printf '[Service]\nLoadCredentialEncrypted=sallyport-vault-key:/etc/sallyport/vault-key.cred\n' >/etc/systemd/system/sallyport.service.d/key.conf
systemctl daemon-reload
systemctl start sallyport
wait_healthy "$dir/credential"
CHECK

cat >/etc/systemd/system/check.service <<UNIT
[Unit]
After=sallyport.service
Wants=sallyport.service
[Service]
Type=oneshot
ExecStart=/bin/bash /root/check.sh $dir
ExecStopPost=/bin/systemctl poweroff -ff
UNIT
# Credentials reach a service by mount propagation, which systemd turns on by
# itself only outside of containers.
mount --make-rshared /
exec unshare --pid --fork --kill-child --mount-proc --mount --propagation shared \
	env container=other /lib/systemd/systemd --system --unit=check.service
