/**
 * The command line that starts a program behind the walls: it joins the control group, enters a mount namespace of its
 * own, builds the root there, gives up root's rights for good and becomes the program. The process stays the same one.
 */
import type { SystemUser } from '../postgres/specification.ts'
import type { SessionRoot } from './session-root.ts'

export interface Enclosure {
  readonly root: SessionRoot | undefined
  /** Directory of the control group. */
  readonly cgroup: string | undefined
}

/** What the program's exit status is when the walls could not be built. What failed stands on stderr. */
export const NOT_ENCLOSED = 97

/** The old root is detached with all that is mounted in it, other sessions' mounts among it. */
const SCRIPT = `
cgroup=$1 fstab=$2 root=$3 uid=$4 gid=$5 directory=$6
shift 6
give_up() { echo "FATAL:  the walls of the session could not be built: $1 failed" >&2; exit ${NOT_ENCLOSED}; }
if [ -n "$cgroup" ]; then echo $$ > "$cgroup/cgroup.procs" || give_up 'entering the control group'; fi
if [ -n "$root" ]; then
  mount --all --fstab "$fstab" || give_up mount
  cd "$root" && pivot_root . . && umount --lazy . || give_up pivot_root
fi
cd "$directory" || give_up cd
exec setpriv --reuid "$uid" --regid "$gid" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
`

/** For a parent that is root. */
export function enclosedCommand(
  { root, cgroup }: Enclosure,
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
