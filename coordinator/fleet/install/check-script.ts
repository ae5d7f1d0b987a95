/**
 * The shell script that looks at a host in one pass, before there is anything of Howdah on it. POSIX shell and what every
 * distribution has; what is missing is reported as missing. It changes nothing.
 *
 * It prints one fact a line: a key and its words. The last line is `end`: without it the script was cut off.
 */

export interface Reachable {
  readonly host: string
  readonly port: number
}

/** Seconds that the host tries to reach one address. */
export const REACH_SECONDS = 5

/** @param reach addresses to be reached from there; host names and addresses only */
export function checkScript(reach: readonly Reachable[]): string {
  const targets = reach
    .filter(({ host }) => /^[\w.:%-]+$/.test(host))
    .map(({ host, port }) => `reach '${host}' ${port}`)
  return `${SCRIPT}${targets.length === 0 ? '' : `${REACH}${targets.join('\n')}\n`}echo end`
}

const SCRIPT = String.raw`
echo "uid $(id -u)"
echo "hostname $(hostname 2>/dev/null || uname -n)"
echo "kernel $(uname -r)"
echo "machine $(uname -m)"
if [ -r /etc/os-release ]; then
  (. /etc/os-release; echo "system $PRETTY_NAME"; echo "release $ID $VERSION_ID")
fi
libc=$(ldd --version 2>&1 | head -n 1)
case $libc in
  *musl*) echo "libc musl" ;;
  *[0-9].[0-9]*) echo "libc glibc $(echo "$libc" | grep -o '[0-9][0-9]*\.[0-9][0-9]*' | tail -n 1)" ;;
esac
if [ -d /run/systemd/system ]; then echo "systemd $(systemctl --version 2>/dev/null | head -n 1 | cut -d ' ' -f 2)"; fi
if [ -c /dev/fuse ]; then
  if (: <>/dev/fuse) 2>/dev/null; then echo "fuse usable"; else echo "fuse closed"; fi
fi
for p in fusermount fusermount3 unshare mount umount pivot_root setpriv nft tar gzip sha256sum systemctl crond cron; do
  found=$(command -v $p) && echo "program $p $found"
done
[ -r /sys/fs/cgroup/cgroup.controllers ] || [ -r /sys/fs/cgroup/unified/cgroup.controllers ] && echo "cgroup2 yes"
for p in /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres /opt/postgresql/*/bin/postgres; do
  [ -x "$p" ] && echo "postgres $("$p" --version 2>/dev/null | grep -o '[0-9][0-9.]*' | head -n 1) $p"
done
for p in postgres howdah; do id -u $p >/dev/null 2>&1 && echo "user $p $(id -u $p)"; done
there() { d=$1; while [ ! -d "$d" ]; do d=$(dirname "$d"); done; echo "$d"; }
for p in /opt /var/lib /tmp /var/tmp; do
  set -- $(df -Pk "$(there $p)" 2>/dev/null | tail -n 1)
  [ $# -ge 6 ] && at=$6 && options=$(while read -r _ m t o _; do [ "$m" = "$at" ] && echo "$t $o"; done </proc/self/mounts | tail -n 1) &&
    echo "space $p $4 $options"
done
if [ -r /sys/fs/selinux/enforce ]; then
  if [ "$(cat /sys/fs/selinux/enforce)" = 1 ]; then echo "selinux enforcing"; else echo "selinux permissive"; fi
fi
[ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] && echo "apparmor enabled"
if [ -L /opt/howdah/current ]; then echo "installed $(readlink /opt/howdah/current)"; fi
if [ -L /opt/howdah/previous ]; then echo "previous $(readlink /opt/howdah/previous)"; fi
for d in /opt/howdah/*/; do
  [ -L "$(dirname "$d/x")" ] || { [ -f "$d/package.json" ] && echo "version $(basename "$d")"; }
done
if [ "$(readlink /usr/bin/howdah)" = /opt/howdah/current/bin/howdah ]; then echo "package $(dpkg-query -s howdah 2>/dev/null | sed -n 's/^Version: //p')"; fi
for kind in mount target; do
  f=/etc/howdah/$kind-agent.json
  if [ -r $f ]; then
    echo "agent $kind $(tr -d '\n' <$f | sed -n 's/.*"name"[[:space:]]*:[[:space:]]*"\([A-Za-z0-9_-]*\)".*/\1/p')"
  elif [ -e $f ]; then
    echo "agent $kind"
  fi
done
`

/** By whatever is there: bash, Python, Perl or nc. */
const REACH = String.raw`
limit() { if command -v timeout >/dev/null; then timeout 5 "$@"; else "$@"; fi; }
reach() {
  if command -v python3 >/dev/null; then
    said=$(limit python3 -c 'import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 4)' "$1" "$2" 2>&1); s=$?; t=python3
  elif command -v bash >/dev/null && command -v timeout >/dev/null; then
    said=$(limit bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>&1); s=$?; t=bash
  elif command -v perl >/dev/null; then
    said=$(limit perl -MIO::Socket::INET -e 'IO::Socket::INET->new(PeerAddr=>$ARGV[0],PeerPort=>$ARGV[1],Timeout=>4) or die "$@\n"' "$1" "$2" 2>&1); s=$?; t=perl
  elif command -v nc >/dev/null; then
    said=$(limit nc -w 4 "$1" "$2" </dev/null 2>&1); s=$?; t=nc
  else
    echo "reach $1 $2 untried"; return
  fi
  if [ $s = 0 ]; then echo "reach $1 $2 yes $t"; else echo "reach $1 $2 no $(echo "$said" | tail -n 1)"; fi
}
`
