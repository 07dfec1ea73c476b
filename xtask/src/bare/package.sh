# Installs the package $1 on a bare Debian, runs the commands $2 of docs/getting-started.md, and
# removes it. bmpd runs in a network namespace of its own. Then the rpm $3 is installed and removed
# with rpm's own program: Debian has it, and its programs.
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
unshare --net sh -eu -s "$2" <<'END'
bmpd --config /etc/bmpd/bmpd.conf --state /var/lib --bpffs /sys/fs/bpf/bmpd-bare-run &
bmpd=$!
trap 'kill "$bmpd"' EXIT
until bmpctl display bmp session 2>/dev/null; do
    kill -0 "$bmpd"
    sleep 0.1
done
set -x
. "$1"
set +x
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

apt-get install -y -qq --no-install-recommends rpm >/dev/null
say "installing $3"
# Debian 12's rpm installs nothing without this option, and Debian 13's does not know it.
force=
if rpm --force-debian --version >/dev/null 2>&1; then force=--force-debian; fi
# Debian's packages are not in rpm's database.
rpm $force --nodeps --install "$3"
bmpd check --config /etc/bmpd/bmpd.conf
test "$(stat -c %U:%a /etc/bmpd/bmpd.conf)" = bmpd:640
bmpd prepare --user bmpd --bpffs /sys/fs/bpf/bmpd
say "removing it"
rpm $force --nodeps --erase bmpd
test ! -e /usr/sbin/bmpd
test ! -e /sys/fs/bpf/bmpd
say "nothing is left of it"
