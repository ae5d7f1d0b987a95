/** The version of Howdah, as package.json has it. */
import { readFileSync } from 'node:fs'

/** In a checkout package.json is one directory up, in a build two. */
export function version(): string {
  for (const candidate of ['../package.json', '../../package.json']) {
    try {
      const text = readFileSync(new URL(candidate, import.meta.url), 'utf8')
      return (JSON.parse(text) as { version: string }).version
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
  throw new Error('package.json is missing; install Howdah again')
}
