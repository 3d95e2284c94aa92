#!/bin/bash
# usage: boot.sh CGROUP WORK TREE
# Becomes `unshare`, whose child is this machine's systemd as PID 1 of namespaces of its own,
# over a throw-away overlay of `/`; with the first, the second and all of it are gone.
#   CGROUP  an empty cgroup (version 2), root of what systemd sees
#   WORK    an empty directory to mount on
#   TREE    what is laid over `/`
set -eu
export CGROUP=$1 WORK=$2 TREE=$3
echo $$ >"$CGROUP/cgroup.procs" # before unshare: where it is becomes the root
exec setpriv --pdeathsig KILL unshare --fork --kill-child --pid --mount --net --uts --ipc \
	--cgroup --propagation private bash -euc '
mount -t tmpfs tmpfs "$WORK"
cd "$WORK"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cd root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid tmpfs dev
mkdir dev/net dev/pts dev/shm
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0" "net/tun 10 200"; do
	set -- $node
	mknod -m 666 "dev/$1" c "$2" "$3"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
rm -rf etc/systemd/system/*.wants usr/local/lib/systemd
# A machine-id that is new would enable every unit.
echo 0123456789abcdef0123456789abcdef >etc/machine-id
printf "[Unit]\nDefaultDependencies=no\nRequires=sysinit.target basic.target dbus.socket\nAfter=sysinit.target basic.target dbus.socket\n" \
	>etc/systemd/system/boot-test.target
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service \
	systemd-remount-fs.service sys-kernel-debug.mount sys-kernel-tracing.mount; do
	ln -sf /dev/null "etc/systemd/system/$unit"
done
cp -a "$TREE/." .
mkdir -p .old
pivot_root . .old
umount -l /.old
mount --make-rshared / # private for pivot_root, shared for systemd
exec env -i container=boot-test PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
	/lib/systemd/systemd --system --unit=boot-test.target --log-target=journal --show-status=0
'
