/** The passwords of the broker's users, one file each that only its owner reads: made once, then kept. */
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, open, readFile } from 'node:fs/promises'
import path from 'node:path'
import { HowdahError } from '../../../messages/errors.ts'

/** Never shorter, also when somebody wrote the file. */
const MIN_LENGTH = 12
const RANDOM_BYTES = 24

export function passwordFile(directory: string, user: string): string {
  return path.join(directory, `${user}.password`)
}

/** Passwords by user; makes those that are missing. @throws HowdahError `configuration` that names the file */
export async function keepPasswords(
  directory: string,
  users: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const passwords = new Map<string, string>()
  for (const user of users) passwords.set(user, await keepPassword(passwordFile(directory, user)))
  return passwords
}

/** The password of a file; makes it if it is missing. @throws HowdahError `configuration` that names the file */
export async function keepPassword(file: string): Promise<string> {
  try {
    // Created only if missing: two set-ups at once agree on one password.
    await using handle = await open(file, 'wx', 0o600)
    const password = randomBytes(RANDOM_BYTES).toString('base64url')
    await handle.writeFile(`${password}\n`)
    return password
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  await chmod(file, 0o600)
  const password = (await readFile(file, 'utf8')).trim()
  if (password.length >= MIN_LENGTH) return password
  throw new HowdahError(
    'configuration',
    `${file} has no password of at least ${MIN_LENGTH} characters; remove it, and a new one is made`,
  )
}
