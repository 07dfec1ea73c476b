# Installs the package that it is given on a bare Debian, uses it as docs/getting-started.md does,
# and removes it. bmpd runs in a network namespace of its own.
set -eu

say() { echo "bare: $*"; }

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
say "installing $1"
apt-get install -y -qq --no-install-recommends "$1" >/dev/null
getent passwd bmpd >/dev/null
getent group bmpd bmpd-view >/dev/null
bmpd --version
bmpd check --config /etc/bmpd/bmpd.conf
test -f /usr/lib/systemd/system/bmpd.service
test -f /usr/share/man/man8/bmpd.8.gz
test "$(bmpctl --complete 'display bmp sess')" = session
bmpd prepare --user bmpd --bpffs /sys/fs/bpf/bmpd-bare

say "running it"
unshare --net sh -eu <<'END'
bmpd --config /etc/bmpd/bmpd.conf --state /var/lib --bpffs /sys/fs/bpf/bmpd-bare-run &
bmpd=$!
trap 'kill "$bmpd"' EXIT
until bmpctl display bmp session 2>/dev/null; do
    kill -0 "$bmpd"
    sleep 0.1
done
bmpctl display interface-binding
bmpctl -c system-view -c bmp -c "bmp-session 198.51.100.7" -c "tcp connect port 11019" -c "connect-interface eth1" -c commit
bmpctl display bmp session
grep -q "bmp-session 198.51.100.7" /etc/bmpd/bmpd.conf
kill "$bmpd"
trap - EXIT
wait "$bmpd"
END
test ! -e /sys/fs/bpf/bmpd-bare-run
bmpd detach --bpffs /sys/fs/bpf/bmpd-bare
test ! -e /sys/fs/bpf/bmpd-bare

say "removing it"
apt-get remove -y -qq bmpd >/dev/null
test ! -e /usr/sbin/bmpd
test -e /etc/bmpd/bmpd.conf
apt-get purge -y -qq bmpd >/dev/null
test ! -e /etc/bmpd
test ! -e /var/lib/bmpd
say "nothing is left of it"
