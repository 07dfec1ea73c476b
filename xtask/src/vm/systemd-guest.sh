# The unit of the machine with systemd: runs each test in a process of its own and switches off. A test may restart the
# machine; it then runs once more. What cargo xtask appends calls `run`.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/run/tmp
mkdir -p /run/tmp
for port in /dev/vport*; do
    exec >"$port" 2>&1 </dev/null
done
state=$(systemctl is-system-running --wait)
about="systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p'), Linux $(uname -r)"
echo "booted $about, after $(cut -d' ' -f1 /proc/uptime) s: $state"
[ "$state" = running ] || systemctl list-units --failed --no-legend --plain
number=0

# NAME PROGRAM TEST
run() {
    number=$((number + 1))
    [ "$number" -gt "$(cat /run/vm/ended)" ] || return 0
    if [ "$number" = "$(cat /run/vm/begun)" ]; then
        # The output of the part before the restart has ended within a line.
        rm /run/vm/restarting && echo
    else
        rm -f /run/vm/stage
        echo "$number" >/run/vm/begun
        echo "     Running $1, $about ($2)"
    fi
    "$2" --exact "$3" --include-ignored
    while [ -e /run/vm/restarting ]; do
        sleep 60
    done
    echo "$number" >/run/vm/ended
}

finish() {
    echo "$1"
    echo o >/proc/sysrq-trigger
    sleep 60
}
