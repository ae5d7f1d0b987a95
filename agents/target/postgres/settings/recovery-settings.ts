/**
 * How PostgreSQL is told to recover: settings (12 and newer), recovery.conf (older), and the script that hands it WAL
 * from the mount. Pure.
 *
 * Facts: PostgreSQL documentation, "Archive Recovery" and "Recovery Target" of runtime-config-wal, and
 * "Recovery Target Settings" of the versions before 12.
 */
import { HowdahError } from '../../../../messages/errors.ts'
import { type InstanceSpec, instancePaths, majorVersion, pausesAfterRecovery } from '../specification.ts'

const TARGETS = [
  'recovery_target',
  'recovery_target_name',
  'recovery_target_time',
  'recovery_target_xid',
  'recovery_target_lsn',
] as const

/**
 * Recovery settings in the order in which they must be given: PostgreSQL refuses two targets, and takes clearing a
 * target for a second one when it comes after the one that is set.
 * @throws HowdahError `invalid_message` when the target lacks a value, or has one that is none of its type
 */
export function recoverySettings(spec: InstanceSpec): Map<string, string> {
  const { name, value } = target(spec)
  const settings = new Map<string, string>()
  for (const each of TARGETS) if (each !== name) settings.set(each, '')
  if (name !== undefined) settings.set(name, value)
  settings.set('recovery_target_inclusive', spec.recoverTo.inclusive === false ? 'off' : 'on')
  settings.set('recovery_target_timeline', String(timeline(spec)))
  settings.set('recovery_target_action', action(spec))
  settings.set('restore_command', restoreCommand(spec))
  return settings
}

/** Contents of recovery.conf for versions before 12. */
export function recoveryFile(spec: InstanceSpec): string {
  const version = majorVersion(spec.version)
  const { name, value } = target(spec)
  if (name === 'recovery_target_lsn' && version < 10)
    throw new HowdahError(
      'target_unreachable',
      'PostgreSQL 9.6 cannot recover to an LSN; give a time or an xid.',
      {
        field: 'recoverTo.type',
      },
    )
  const settings: [string, string][] = [['restore_command', restoreCommand(spec)]]
  if (pausesAfterRecovery(spec)) settings.push(['standby_mode', 'on'])
  if (name !== undefined) {
    settings.push([name, value], ['recovery_target_action', action(spec)])
    if (spec.recoverTo.inclusive === false) settings.push(['recovery_target_inclusive', 'off'])
  }
  // Before 12 the current timeline is the default and has no word.
  const followed = timeline(spec)
  if (followed !== 'current') settings.push(['recovery_target_timeline', String(followed)])
  return settings.map(([key, text]) => `${key} = '${text.replaceAll("'", "''")}'\n`).join('')
}

/**
 * The file that asks for recovery. A standby waits at the end of its archive, where any other recovery ends: so an
 * instance that is to stand still there, or to go on later, is one, without a primary.
 */
export function recoveryRequest(spec: InstanceSpec): { readonly name: string; readonly text: string } {
  if (majorVersion(spec.version) < 12) return { name: 'recovery.conf', text: recoveryFile(spec) }
  return { name: pausesAfterRecovery(spec) ? 'standby.signal' : 'recovery.signal', text: '' }
}

/** All names that `recoveryRequest` gives. */
export const RECOVERY_REQUESTS = ['recovery.conf', 'standby.signal', 'recovery.signal'] as const

function action(spec: InstanceSpec): string {
  return pausesAfterRecovery(spec) ? 'pause' : 'promote'
}

/** What a value looks like; a name may be anything. */
const VALUES = {
  // PostgreSQL would read a time without one in a zone that nobody chose.
  time: {
    pattern: /^[0-9].*[0-9]:[0-9].*(?:Z|[+-]\d\d(?::?\d\d){0,2}|[A-Za-z]{3,5}|[A-Za-z_]+\/[A-Za-z_/+-]+)$/,
    means: 'a time with its zone, as in 2026-01-02T03:04:05+00:00',
  },
  lsn: { pattern: /^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/, means: 'an LSN, as in 0/3000148' },
  xid: { pattern: /^[0-9]{1,20}$/, means: 'the number of a transaction' },
  name: { pattern: /^[^\0\n\r]+$/, means: 'the name of a restore point, on one line' },
} as const

function target({ recoverTo }: InstanceSpec): { name: (typeof TARGETS)[number] | undefined; value: string } {
  const { type, value } = recoverTo
  switch (type) {
    case 'latest':
      return { name: undefined, value: '' }
    case 'immediate':
      return { name: 'recovery_target', value: 'immediate' }
    case 'time':
    case 'lsn':
    case 'xid':
    case 'name': {
      const { pattern, means } = VALUES[type]
      if (value !== undefined && pattern.test(value)) {
        // PostgreSQL reads its command line before it knows abbreviations of zones, of which Z is one.
        const understood = type === 'time' ? value.replace(/Z$/, '+00:00') : value
        return { name: `recovery_target_${type}`, value: understood }
      }
      throw new HowdahError(
        'invalid_message',
        `Recovery to ${type} ${value === undefined ? 'needs its value' : `"${value}" is not possible`}: give ${means}.`,
        { field: 'recoverTo.value' },
      )
    }
    default:
      return type satisfies never
  }
}

function timeline({ recoverTo }: InstanceSpec): number | string {
  return recoverTo.timeline ?? (recoverTo.type === 'immediate' ? 'current' : 'latest')
}

/**
 * Who looks a segment up in the mount waits until it lies ready in a directory of this machine, where it is taken away.
 * What does not come to lie there the script copies, or tells why not.
 */
function restoreCommand(spec: InstanceSpec): string {
  const { wal, readyWal, restoreScript: script } = instancePaths(spec)
  // `%` begins a placeholder of restore_command.
  const quote = (path: string) => shellQuote(path).replaceAll('%', '%%')
  const take = `[ -e ${quote(wal)}/%f ] && mv -f -- ${quote(readyWal)}/%f "%p" 2> /dev/null`
  return `${take} || exec /bin/sh ${quote(script)} %f "%p"`
}

/** How the script tells in the log that the archive lacks a file; versions before 15 do not say that they wait for it. */
export const ABSENT = 'howdah: the archive does not have '

/** How the script tells of a segment at the end of the archive that is there in part only. */
export const INCOMPLETE = 'howdah: the archive has only a part of '

/**
 * The script behind restore_command: copies one WAL file from the mount. A file that the archive does not have ends
 * recovery as it should (exit 1), and so does the last segment of one whose server ended while it was copied there. Any
 * other failure must not look like the end of the archive, or the instance would be promoted without the transactions
 * that follow: PostgreSQL gives up on an exit status above 125.
 * @param segmentBytes of each whole segment
 */
export function restoreScript(spec: InstanceSpec, segmentBytes: number): string {
  const wal = shellQuote(instancePaths(spec).wal)
  const told = pausesAfterRecovery(spec) ? `printf '${ABSENT}%s\\n' "$1" >&2; exit 1` : 'exit 1'
  return `# Made by Howdah for session ${spec.session}: hands PostgreSQL one WAL file ($1) as $2.
absent() { ${told}; }
failed() { printf 'restoring %s from the archive failed: %s\\n' "$1" "$2" >&2; exit 255; }
message=$(LC_ALL=C exec cp -- ${wal}/"$1" "$2" 2>&1) || case $message in
*'No such file or directory'*) absent "$1" ;;
*) failed "$1" "$message" ;;
esac
case $1 in *[!0-9A-F]*) exit 0 ;; esac
size=$(wc -c < "$2")
[ "$size" -eq ${segmentBytes} ] && exit 0
place=\${1#????????}
log=$((0x\${place%????????})) segment=$((0x\${place#????????} + 1))
[ $segment -eq ${2 ** 32 / segmentBytes} ] && segment=0 log=$((log + 1))
next=$(printf '%s%08X%08X' "\${1%????????????????}" $log $segment)
[ -e ${wal}/"$next" ] && failed "$1" "it has only $size of ${segmentBytes} bytes there, and $next follows it"
printf '${INCOMPLETE}%s: %s of %s bytes\\n' "$1" "$size" ${segmentBytes} >&2
absent "$1"
`
}

export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}
