/**
 * The command line that starts a program isolated: it joins the control group, enters a new mount namespace, mounts the
 * root directory there, drops root's privileges irrevocably and executes the program. The process ID stays the same.
 */
import type { SystemUser } from '../postgres/specification.ts'
import type { SessionRoot } from './session-root.ts'

export interface IsolationBoundary {
  readonly root: SessionRoot | undefined
  /** Directory of the control group. */
  readonly cgroup: string | undefined
}

/** Exit status when the isolation could not be set up; stderr says which part failed. */
export const ISOLATION_FAILED = 97

/** The old root is detached with everything mounted in it, including the mounts of other sessions. */
const SCRIPT = `
cgroup=$1 fstab=$2 root=$3 uid=$4 gid=$5 directory=$6
shift 6
fail() { echo "FATAL:  the isolation of the session could not be set up: $1 failed" >&2; exit ${ISOLATION_FAILED}; }
if [ -n "$cgroup" ]; then echo $$ > "$cgroup/cgroup.procs" || fail 'entering the control group'; fi
if [ -n "$root" ]; then
  mount --all --fstab "$fstab" || fail mount
  cd "$root" && pivot_root . . && umount --lazy . || fail pivot_root
fi
cd "$directory" || fail cd
exec setpriv --reuid "$uid" --regid "$gid" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
`

/** The parent process must be root. */
export function isolatedCommand(
  { root, cgroup }: IsolationBoundary,
  user: SystemUser,
  directory: string,
  command: readonly string[],
): readonly [program: string, ...args: string[]] {
  const shell = [
    ...['/bin/sh', '-c', SCRIPT, 'sh', cgroup ?? '', root?.fstab ?? '', root?.root ?? ''],
    ...[String(user.uid), String(user.gid), directory, ...command],
  ]
  return root === undefined
    ? ['/bin/sh', ...shell.slice(1)]
    : ['unshare', '--mount', '--propagation', 'private', '--', ...shell]
}
