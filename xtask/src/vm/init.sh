#!/bin/busybox sh
# The first program of the virtual machine: mounts the host's files below an overlay and goes on with guest.sh there.
set -e
busybox=/bin/busybox
$busybox mount -t devtmpfs dev /dev
for module in /modules/*; do
    $busybox insmod "$module"
done
nine=trans=virtio,version=9p2000.L,msize=512000
$busybox mount -t 9p -o "$nine,ro,cache=loose" host /host
$busybox mount -t tmpfs written /written
$busybox mkdir /written/upper /written/work
$busybox mount -t overlay -o lowerdir=/host,upperdir=/written/upper,workdir=/written/work overlay /root
$busybox mount -t tmpfs -o mode=0755 run /root/run
$busybox mkdir /root/run/vm
$busybox mount -t 9p -o "$nine" share /root/run/vm
exec $busybox switch_root /root /bin/sh /run/vm/guest.sh
