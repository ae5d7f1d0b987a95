/** Backups of a PostgreSQL that is newer than what this release knows. */
import { cp, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import type { CommandBody } from '../../messages/definitions.ts'
import type { BackupSummary } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { scratchDirectory } from '../support/scratch.ts'

const LABEL = (time: string) => `START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
CHECKPOINT LOCATION: 0/2000060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: ${time}
LABEL: test
START TIMELINE: 1
`

describe('a backup of PostgreSQL 19, after others of the instance', function () {
  this.timeout(60_000)
  let directory: string
  let fleet: Fleet

  before(async () => {
    directory = await scratchDirectory('howdah-newer-')
    for (const [name, version, time] of [
      ['before', '18', '2026-01-02 03:04:05 UTC'],
      ['upgraded', '19', '2026-01-03 03:04:05 UTC'],
    ] as const) {
      const backup = join(directory, 'main', name)
      await mkdir(backup, { recursive: true })
      await writeFile(join(backup, 'PG_VERSION'), `${version}\n`)
      await writeFile(join(backup, 'backup_label'), LABEL(time))
    }
    // Alone in its instance.
    await cp(join(directory, 'main/upgraded'), join(directory, 'new/upgraded'), { recursive: true })
    fleet = await startFleet({ repositories: [{ name: 'main', format: 'basebackup', path: directory }] })
  })
  after(async () => {
    await fleet?.remove()
    await rm(directory, { recursive: true, force: true })
  })

  async function refusal(options: Partial<CommandBody<'instance.publish'>>) {
    const body = { repository: 'main', instance: 'main', target: 'db-7', ...options }
    const reply = await fleet.bus.request('instance.publish', body)
    if (!reply.accepted) throw new Error(reply.error.message)
    return (await fleet.untilState(reply.session, 'failed')).error
  }

  it('is listed with the reason why it is not published', async () => {
    const reply = await fleet.bus.request('inventory.list', {})
    if (!reply.accepted) throw new Error(reply.error.message)
    const backups: readonly BackupSummary[] = reply.repositories[0]?.instances[0]?.backups ?? []
    expect(backups.map(({ label }) => label)).to.deep.equal(['before', 'upgraded'])
    expect(backups.map(({ unusable }) => unusable)).to.deep.equal([
      undefined,
      'it is of PostgreSQL 19, which this release of Howdah does not know; it publishes PostgreSQL 9.6 to 18',
    ])
  })

  for (const [what, options] of [
    ['alone', { instance: 'new' }],
    ['by its label', { backup: 'upgraded' }],
    // Not silently the older one.
    ['as the latest', {}],
    ['at its end', { recoverTo: { type: 'immediate' } }],
  ] as const)
    it(`is refused ${what}`, async () => {
      const error = await refusal(options)
      expect(error?.code).to.equal('backup_unsupported')
      expect(error?.message).to.include('upgraded').and.include('PostgreSQL 19').and.include('9.6 to 18')
    })
})
