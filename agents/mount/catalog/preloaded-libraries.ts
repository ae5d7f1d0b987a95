/** The libraries that a backup's server was started with, as its configuration names them. */
import { parseConfiguration, parseList } from '../../runtime/postgresql-conf.ts'
import type { OpenBackup } from '../repository.ts'

const MAX_FILE_BYTES = 1024 * 1024
const MAX_LIBRARIES = 100
const MAX_NAME = 255

/**
 * From postgresql.conf, without the files that it includes, and postgresql.auto.conf, which overrides it. Undefined: they
 * do not say, for example because the configuration lies elsewhere, or cannot be read.
 */
export async function readPreloadedLibraries(backup: OpenBackup): Promise<string[] | undefined> {
  let value: string | undefined
  for (const name of ['postgresql.conf', 'postgresql.auto.conf']) {
    const entry = backup.entry(`data/${name}`)
    if (entry?.file === undefined || entry.size > MAX_FILE_BYTES) continue
    const text = await backup.read(entry.file, 0, entry.size).catch(() => undefined)
    const directives = text === undefined ? [] : parseConfiguration(text.toString('utf8'))
    value = directives.findLast((each) => each.name === 'shared_preload_libraries')?.value ?? value
  }
  if (value === undefined) return undefined
  const libraries = parseList(value).filter((each) => each.length <= MAX_NAME)
  return libraries.slice(0, MAX_LIBRARIES)
}
