/** Credentials by name, from the target agent's configuration: users, and files with keys and passwords that only it may read. */
import { readFile, stat } from 'node:fs/promises'
import type { CredentialConfig } from '../../../../config/formats.ts'
import { HowdahError } from '../../../../messages/errors.ts'

export type Credentials = Readonly<Record<string, CredentialConfig>>

/** @throws HowdahError `configuration` when there is none of that name */
export function credential(credentials: Credentials, name: string | undefined): CredentialConfig {
  if (name === undefined) return {}
  const found = Object.hasOwn(credentials, name) ? credentials[name] : undefined
  if (found) return found
  const names = Object.keys(credentials).join(', ') || 'none'
  throw new HowdahError(
    'configuration',
    `the target agent has no credential "${name}"; its configuration (credentials) has ${names}`,
    { field: 'destination.credential' },
  )
}

const READABLE_BY_OTHERS = 0o077

/** Reads a file with a secret. @throws HowdahError `configuration` when it is unreadable, or readable for others too */
export async function readSecretFile(path: string): Promise<string> {
  try {
    const { mode } = await stat(path)
    if ((mode & READABLE_BY_OTHERS) !== 0)
      throw new HowdahError('configuration', `${path} is open to others than its owner: chmod 600 ${path}`)
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof HowdahError) throw error
    throw new HowdahError(
      'configuration',
      `the file of a credential cannot be read: ${(error as Error).message}`,
      {
        cause: error,
      },
    )
  }
}

/** Reads a password: the first line of a file. */
export async function readPassword(path: string): Promise<string> {
  return (await readSecretFile(path)).split('\n')[0]?.replace(/\r$/, '') ?? ''
}
