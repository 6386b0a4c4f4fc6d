#!/bin/bash
# boot.sh ROOT DIR PID
#
# Boots systemd in a copy of ROOT, with DIR at /packages in it, and writes its process id, as seen from here, into
# the file PID. For a sandbox, which it must not outlive.
set -eu
root=$1 dir=$2 file=$3
if [ "${4-}" != inside ]; then
	exec unshare --mount --propagation private --pid --fork --kill-child bash "$0" "$root" "$dir" "$file" inside
fi
read -r pid _ </proc/self/stat # /proc is still the outer one
copy=$(mktemp -d)
mount -t tmpfs -o mode=0755 tmpfs "$copy"
mkdir "$copy/upper" "$copy/work" "$copy/root"
mount -t overlay -o "lowerdir=$root,upperdir=$copy/upper,workdir=$copy/work" overlay "$copy/root"
cd "$copy/root"
mkdir -p packages
mount --bind "$dir" packages
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd || mount -t cgroup2 cgroup2 sys/fs/cgroup
echo "127.0.0.1 localhost sandbox" >etc/hosts
echo "$pid" >"$file"
mount --make-rshared "$copy/root"
exec chroot . env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=multi-user.target
