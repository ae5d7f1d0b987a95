import { expect } from 'chai'
import { readPreloadedLibraries } from '../../agents/mount/catalog/preloaded-libraries.ts'
import type { OpenBackup } from '../../agents/mount/repository.ts'

/** A backup of these files, as far as it is read here. */
function backupOf(files: Readonly<Record<string, string>>): OpenBackup {
  const names = Object.keys(files)
  return {
    entry: (path: string) =>
      files[path] === undefined ? undefined : { file: names.indexOf(path), size: files[path].length },
    read: async (file: number, offset: number, length: number) => {
      const text = files[names[file] ?? ''] ?? ''
      if (text === 'damaged') throw new Error('the file is damaged')
      return Buffer.from(text).subarray(offset, offset + length)
    },
  } as unknown as OpenBackup
}

describe('The preloaded libraries of a backup', () => {
  const conf =
    "shared_preload_libraries = 'auto_explain'\nShared_Preload_Libraries 'pg_tde, \"citus\"' # both\n"

  it('are those of the last line that names them', async () => {
    expect(await readPreloadedLibraries(backupOf({ 'data/postgresql.conf': conf }))).to.deep.equal([
      'pg_tde',
      'citus',
    ])
  })

  it('are those of postgresql.auto.conf where it names them', async () => {
    const files = {
      'data/postgresql.conf': conf,
      'data/postgresql.auto.conf': "shared_preload_libraries = ''",
    }
    expect(await readPreloadedLibraries(backupOf(files))).to.deep.equal([])
  })

  it('are unknown when the backup has no configuration or it cannot be read', async () => {
    expect(await readPreloadedLibraries(backupOf({}))).to.equal(undefined)
    expect(await readPreloadedLibraries(backupOf({ 'data/postgresql.conf': 'damaged' }))).to.equal(undefined)
  })
})
