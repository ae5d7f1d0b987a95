/** A password file for libpq, which only the session's user can read and which is removed with the export. */
import { open, rm } from 'node:fs/promises'
import type { SystemUser } from '../../postgres/specification.ts'

export interface PassfileEntry {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password: string
}

/** The directory must be the agent's own. Format: PostgreSQL documentation, "The Password File". */
export async function writePassfile(path: string, entry: PassfileEntry, owner: SystemUser): Promise<void> {
  const escaped = (text: string): string => text.replace(/[\\:]/g, '\\$&')
  // For a socket libpq matches its directory, or "localhost" for the default directory.
  const hosts = entry.host.startsWith('/') ? ['*'] : [escaped(entry.host)]
  const lines = hosts.map(
    (host) => `${host}:${entry.port}:*:${escaped(entry.user)}:${escaped(entry.password)}\n`,
  )
  await rm(path, { force: true })
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(lines.join(''))
    await file.chown(owner.uid, owner.gid)
  } finally {
    await file.close()
  }
}
