/**
 * How PostgreSQL is told to recover: settings (12 and newer), recovery.conf (older), and the script that hands it WAL
 * from the mount. Pure.
 *
 * Facts: PostgreSQL documentation, "Archive Recovery" and "Recovery Target" of runtime-config-wal, and
 * "Recovery Target Settings" of the versions before 12.
 */
import { HowdahError } from '../../../messages/errors.ts'
import { type InstanceSpec, instancePaths, majorVersion } from './specification.ts'

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
 * @throws HowdahError `invalid_message` when the target needs a value and has none
 */
export function recoverySettings(spec: InstanceSpec): Map<string, string> {
  const { name, value } = target(spec)
  const settings = new Map<string, string>()
  for (const each of TARGETS) if (each !== name) settings.set(each, '')
  if (name !== undefined) settings.set(name, value)
  settings.set('recovery_target_inclusive', spec.recoverTo.inclusive === false ? 'off' : 'on')
  settings.set('recovery_target_timeline', String(timeline(spec)))
  settings.set('recovery_target_action', 'promote')
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
  if (name !== undefined) {
    settings.push([name, value], ['recovery_target_action', 'promote'])
    if (spec.recoverTo.inclusive === false) settings.push(['recovery_target_inclusive', 'off'])
  }
  // Before 12 the current timeline is the default and has no word.
  const followed = timeline(spec)
  if (followed !== 'current') settings.push(['recovery_target_timeline', String(followed)])
  return settings.map(([key, text]) => `${key} = '${text.replaceAll("'", "''")}'\n`).join('')
}

function target({ recoverTo }: InstanceSpec): { name: (typeof TARGETS)[number] | undefined; value: string } {
  switch (recoverTo.type) {
    case 'latest':
      return { name: undefined, value: '' }
    case 'immediate':
      return { name: 'recovery_target', value: 'immediate' }
    case 'time':
    case 'lsn':
    case 'xid':
    case 'name':
      if (recoverTo.value === undefined)
        throw new HowdahError('invalid_message', `Recovery to a ${recoverTo.type} needs its value.`, {
          field: 'recoverTo.value',
        })
      return { name: `recovery_target_${recoverTo.type}`, value: recoverTo.value }
    default:
      return recoverTo.type satisfies never
  }
}

function timeline({ recoverTo }: InstanceSpec): number | string {
  return recoverTo.timeline ?? (recoverTo.type === 'immediate' ? 'current' : 'latest')
}

function restoreCommand(spec: InstanceSpec): string {
  // `%` begins a placeholder of restore_command.
  return `exec /bin/sh ${shellQuote(instancePaths(spec).restoreScript).replaceAll('%', '%%')} %f "%p"`
}

/**
 * The script behind restore_command: copies one WAL file from the mount. A file that the archive does not have ends
 * recovery as it should (exit 1). Any other failure must not look like the end of the archive, or the instance would
 * be promoted without the transactions that follow: PostgreSQL gives up on an exit status above 125.
 */
export function restoreScript(spec: InstanceSpec): string {
  return `# Made by Howdah for session ${spec.session}: hands PostgreSQL one WAL file ($1) as $2.
message=$(LC_ALL=C exec cp -- ${shellQuote(instancePaths(spec).wal)}/"$1" "$2" 2>&1) && exit 0
case $message in
*'No such file or directory'*) exit 1 ;;
esac
printf 'restoring %s from the archive failed: %s\\n' "$1" "$message" >&2
exit 255
`
}

export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}
