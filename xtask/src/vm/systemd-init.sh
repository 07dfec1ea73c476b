#!/bin/busybox sh
# The first program of the machine with systemd: mounts its root and this host's files, and goes on with systemd there.
set -e
busybox=/bin/busybox
$busybox mount -t devtmpfs dev /dev
for module in /modules/*; do
    $busybox insmod "$module"
done
while [ ! -b /dev/vda ]; do
    $busybox sleep 0.1
done
nine=trans=virtio,version=9p2000.L,msize=512000
$busybox mount -t ext4 /dev/vda /root
$busybox mkdir -p /root/host /root/usr/lib/modules
$busybox mount -t 9p -o "$nine,ro,cache=loose" host /root/host
$busybox mount -t tmpfs -o mode=0755,nosuid,nodev run /root/run
$busybox mkdir /root/run/vm
$busybox mount -t 9p -o "$nine" share /root/run/vm
# A folder of this host, and its place in the machine.
while read -r from to; do
    $busybox mkdir -p "/root$to"
    $busybox mount -o bind "/root/host$from" "/root$to"
done </root/run/vm/folders
units=/root/run/systemd/system
$busybox mkdir -p $units/multi-user.target.wants
$busybox cp /root/run/vm/bmpd-tests.service $units
$busybox ln -s ../bmpd-tests.service $units/multi-user.target.wants
$busybox mount -o move /dev /root/dev
exec $busybox switch_root /root /sbin/init
