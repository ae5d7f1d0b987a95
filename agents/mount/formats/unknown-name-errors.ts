/** Errors for unknown instances and backups, which name those that exist. */
import { HowdahError } from '../../../messages/errors.ts'

const SHOWN = 20

export const unknownInstance = (repository: string, name: string, there: readonly string[]) =>
  new HowdahError(
    'unknown_instance',
    `repository ${repository} has no instance ${JSON.stringify(name)}; ${those('it has', there)}`,
    { field: 'instance' },
  )

export const unknownBackup = (instance: string, label: string, there: readonly string[]) =>
  new HowdahError(
    'unknown_backup',
    `instance ${instance} has no backup ${JSON.stringify(label)}; ${those('it has', there)}`,
    { field: 'backup' },
  )

function those(intro: string, names: readonly string[]): string {
  if (names.length === 0) return `${intro} none`
  const shown = names.slice(-SHOWN)
  const more = names.length - shown.length
  return `${intro} ${shown.join(', ')}${more > 0 ? ` and ${more} older` : ''}`
}
