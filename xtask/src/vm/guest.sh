# The second program of the virtual machine: makes of the host's files what the tests need, runs them and switches off.
# What cargo xtask appends to it calls `run`.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/run/tmp
mount -t proc proc /proc
# What is below is empty, as on any host: not the other host's /sys.
mount -t tmpfs -o mode=0755 below /sys
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf -o mode=0700 bpf /sys/fs/bpf
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /run/tmp /lib/modules
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
chmod 1777 /dev/shm /run/tmp
echo bmpd-vm >/proc/sys/kernel/hostname
ip link set lo up
for port in /dev/vport*; do
    exec >"$port" 2>&1 </dev/null
done

# NAME PROGRAM [ARGUMENT ...]
run() {
    name=$1 program=$2
    shift 2
    echo "     Running $name, Linux $(uname -r) ($program)"
    "$program" "$@"
}

finish() {
    echo "$1"
    echo o >/proc/sysrq-trigger
    sleep 60
}
