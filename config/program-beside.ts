/** Where the programs of other processes and threads are. */
import { fileURLToPath } from 'node:url'

/** A module beside the one with this `import.meta.url`, as TypeScript or as it was built. `name`: without extension. */
export function programBeside(url: string, name: string): string {
  return fileURLToPath(new URL(`./${name}.${url.endsWith('.ts') ? 'ts' : 'js'}`, url))
}
