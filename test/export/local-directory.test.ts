import { existsSync } from 'node:fs'
import { chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { localDirectory } from '../../agents/target/export/destinations/local-directory.ts'
import { createPrograms } from '../../agents/target/export/dump/programs.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'

/** More than Linux takes as arguments of a program, 2 MiB, whatever the length of the directory's own path. */
const DUMPS = 60_000

describe('an export into a directory', () => {
  it('removes what it may have written, however many databases it has', async () => {
    const user = await postgresAccount()
    const path = await mkdtemp(join(tmpdir(), 'howdah-export-'))
    try {
      await chown(path, user.uid, user.gid)
      const names = Array.from({ length: DUMPS }, (_, index) => `tenant_${index}_${'x'.repeat(40)}`)
      const signal = AbortSignal.timeout(20_000)
      const session = { session: 'discarded', binaries: '/usr/bin', user }
      const dump = join(path, names[7] ?? '')
      await mkdir(dump)
      await writeFile(join(dump, 'toc.dat'), 'a dump')
      await chown(dump, user.uid, user.gid)
      await writeFile(join(path, 'of somebody else'), '')
      const destination = localDirectory({
        ...{ path, format: 'directory', jobs: 1, user, label: 'e1', cachePath: path, reserveBytes: 0 },
        programs: createPrograms({ session, signal }),
        claim: { databases: [], claimed: () => ({ made: true, names }), save: async () => undefined },
      })
      expect(await destination.discard()).to.deep.equal([`removed ${path}`])
      expect(existsSync(dump)).to.equal(false)
      expect(existsSync(join(path, 'of somebody else'))).to.equal(true)
    } finally {
      await rm(path, { recursive: true, force: true })
    }
  }).timeout(30_000)
})
