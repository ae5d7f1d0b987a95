/**
 * `up.json` in the state directory of a running `howdah up`: how client verbs on the same machine find its broker.
 * `up/state-directory.ts` writes and removes it.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { z } from 'zod'
import { HowdahError } from '../../messages/errors.ts'
import { parseJson } from '../../messages/json.ts'

/** The URL holds a password: the file has mode 0600. */
export const UpFile = z.object({
  broker: z.string(),
  pid: z.int().positive(),
  /** Start time of that process in clock ticks after boot: proc(5), field 22 of stat. */
  startTime: z.string(),
})
export type UpFile = z.infer<typeof UpFile>

export function upFilePath(state: string): string {
  return path.join(state, 'up.json')
}

/**
 * Undefined when there is no such file.
 * @throws HowdahError `configuration` when it cannot be read or is damaged
 */
export function readUpFile(state: string): UpFile | undefined {
  let text: string
  try {
    text = readFileSync(upFilePath(state), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new HowdahError('configuration', `${upFilePath(state)}: ${(error as Error).message}`, {
      cause: error,
    })
  }
  const parsed = UpFile.safeParse(parseJson(text)?.value)
  if (!parsed.success) {
    throw new HowdahError('configuration', `${upFilePath(state)} is damaged; start "howdah up" again`)
  }
  return parsed.data
}
