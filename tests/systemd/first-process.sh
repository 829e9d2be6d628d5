#!/usr/bin/env bash
# Becomes the systemd that boot.sh boots, in namespaces that are there already, with
# this machine's files below an overlay: first-process.sh EMPTY-DIRECTORY
set -euo pipefail
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1"/{changes,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" "$1/root"
source=$PWD
cd "$1/root"

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mountpoint -q sys/fs/cgroup || mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<<"$device"
    mknod -m 666 "dev/$name" c "$major" "$minor"
done
mkdir dev/{shm,pts,mqueue,hugepages}
ln -s /proc/self/fd dev/fd
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm

# The targets that services refer to, and no unit of this machine.
mkdir run/units
mount -t tmpfs tmpfs etc/systemd/system
for target in sysinit basic sockets multi-user network-online shutdown umount; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$target" >"run/units/$target.target"
done
# What is being tested may lie on a mount of its own.
mkdir -p ".$source"
mount --rbind "$source" ".$source"

mkdir -p run/outside
pivot_root . run/outside
umount -l /run/outside
# Credentials are mounted where a service starts, and have to be seen here.
mount --make-rshared /
ip link set lo up
exec env -i container=other PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
    SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/units \
    /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
