/**
 * The recovery configuration: settings (12 and newer), recovery.conf (older), and the script behind restore_command, which
 * copies WAL from the mount. Pure.
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
 * Recovery settings without the value of the target, which is the user's. PostgreSQL rejects a second target, and an empty
 * target after one that is set counts as a second: these must come before `recoveryTarget`.
 * @throws HowdahError `invalid_message` when the target lacks a value, or its value is invalid
 */
export function recoverySettings(spec: InstanceSpec): Map<string, string> {
  const { name } = recoveryTarget(spec)
  const settings = new Map<string, string>()
  for (const each of TARGETS) if (each !== name) settings.set(each, '')
  settings.set('recovery_target_inclusive', spec.recoverTo.inclusive === false ? 'off' : 'on')
  settings.set('recovery_target_timeline', String(timeline(spec)))
  settings.set('recovery_target_action', action(spec))
  settings.set('restore_command', restoreCommand(spec))
  return settings
}

/** Contents of recovery.conf for versions before 12. */
export function recoveryFile(spec: InstanceSpec): string {
  const version = majorVersion(spec.version)
  const { name, value } = recoveryTarget(spec)
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
  // Before version 12 the current timeline is the default, and there is no value for it.
  const followed = timeline(spec)
  if (followed !== 'current') settings.push(['recovery_target_timeline', String(followed)])
  return settings.map(([key, text]) => `${key} = '${text.replaceAll("'", "''")}'\n`).join('')
}

/**
 * The file that requests recovery. An instance that is to pause is started as a standby without a primary, since only a
 * standby waits at the end of the archive, and can be advanced later.
 */
export function recoveryRequest(spec: InstanceSpec): { readonly name: string; readonly text: string } {
  if (majorVersion(spec.version) < 12) return { name: 'recovery.conf', text: recoveryFile(spec) }
  return { name: pausesAfterRecovery(spec) ? 'standby.signal' : 'recovery.signal', text: '' }
}

/** All names that `recoveryRequest` returns. */
export const RECOVERY_REQUESTS = ['recovery.conf', 'standby.signal', 'recovery.signal'] as const

function action(spec: InstanceSpec): string {
  return pausesAfterRecovery(spec) ? 'pause' : 'promote'
}

/** The syntax of target values. */
const VALUES = {
  // Without a zone PostgreSQL would use the server's.
  time: {
    pattern: /^[0-9].*[0-9]:[0-9].*(?:Z|[+-]\d\d(?::?\d\d){0,2}|[A-Za-z]{3,5}|[A-Za-z_]+\/[A-Za-z_/+-]+)$/,
    means: 'a time with its zone, as in 2026-01-02T03:04:05+00:00',
  },
  lsn: { pattern: /^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/, means: 'an LSN, as in 0/3000148' },
  xid: { pattern: /^[0-9]{1,20}$/, means: 'the number of a transaction' },
  name: { pattern: /^[^\0\n\r]+$/, means: 'the name of a restore point, on one line' },
} as const

/**
 * The setting that names where recovery ends, and its value; no name: at the end of the archive.
 * @throws HowdahError `invalid_message` when the target lacks a value, or its value is invalid
 */
export function recoveryTarget({ recoverTo }: InstanceSpec): {
  readonly name: (typeof TARGETS)[number] | undefined
  readonly value: string
} {
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
        // PostgreSQL parses its command line before it loads the time zone abbreviations, of which Z is one.
        const accepted = type === 'time' ? value.replace(/Z$/, '+00:00') : value
        return { name: `recovery_target_${type}`, value: accepted }
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
 * Looking up a segment in the mount waits until it is prefetched to a local directory, from which it is moved. Segments that
 * are not prefetched are copied by the script, which also reports why one cannot be.
 */
function restoreCommand(spec: InstanceSpec): string {
  const { wal, readyWal, restoreScript: script } = instancePaths(spec)
  // `%` begins a placeholder of restore_command.
  const quote = (path: string) => shellQuote(path).replaceAll('%', '%%')
  const take = `[ -e ${quote(wal)}/%f ] && mv -f -- ${quote(readyWal)}/%f "%p" 2> /dev/null`
  return `if ${take}; then echo '${RESTORED}%f' >&2; else exec /bin/sh ${quote(script)} %f "%p"; fi`
}

/** Log line of restore_command for a file that it handed to PostgreSQL. */
export const RESTORED = 'howdah: restored '

/** Log line of the script when the archive lacks a file. */
export const ABSENT = 'howdah: the archive does not have '

/** Log line of the script for a partial segment at the end of the archive. */
export const INCOMPLETE = 'howdah: the archive has only a part of '

/**
 * The script behind restore_command: copies one WAL file from the mount. A missing file ends recovery normally (exit 1), and
 * so does a partial last segment, as a server leaves it that ended while archiving. Any other failure must not look like
 * the end of the archive, or the instance would be promoted without the transactions that follow: PostgreSQL aborts
 * recovery on an exit status above 125.
 * @param segmentBytes size of a complete segment
 */
export function restoreScript(spec: InstanceSpec, segmentBytes: number): string {
  const wal = shellQuote(instancePaths(spec).wal)
  return `# Made by Howdah for session ${spec.session}: hands PostgreSQL one WAL file ($1) as $2.
absent() { printf '${ABSENT}%s\\n' "$1" >&2; exit 1; }
restored() { printf '${RESTORED}%s\\n' "$1" >&2; exit 0; }
failed() { printf 'restoring %s from the archive failed: %s\\n' "$1" "$2" >&2; exit 255; }
message=$(LC_ALL=C exec cp -- ${wal}/"$1" "$2" 2>&1) || case $message in
*'No such file or directory'*) absent "$1" ;;
*) failed "$1" "$message" ;;
esac
case $1 in *[!0-9A-F]*) restored "$1" ;; esac
size=$(wc -c < "$2")
[ "$size" -eq ${segmentBytes} ] && restored "$1"
place=\${1#????????}
log=$((0x\${place%????????})) segment=$((0x\${place#????????} + 1))
[ $segment -eq ${2 ** 32 / segmentBytes} ] && segment=0 log=$((log + 1))
next=$(printf '%s%08X%08X' "\${1%????????????????}" $log $segment)
[ -e ${wal}/"$next" ] && failed "$1" "it has only $size of ${segmentBytes} bytes there, and $next follows it"
printf '${INCOMPLETE}%s: %s of %s bytes\\n' "$1" "$size" ${segmentBytes} >&2
absent "$1"
`
}

function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}
