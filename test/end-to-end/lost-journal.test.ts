import { rm } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { makeProduction, type Production } from '../support/production.ts'

describe('a target agent that lost its state directory with the journal', function () {
  this.timeout(120_000)
  let production: Production
  let fleet: Fleet
  let failed = false

  before(async () => {
    production = await makeProduction({ compress: 'gz' })
    await production.backup('full')
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
    })
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    await production?.remove()
  })

  async function publish(): Promise<string> {
    const body = { repository: 'main', instance: production.stanza, target: 'db-7' }
    const reply = await fleet.bus.request('instance.publish', body)
    if (!reply.accepted) throw new Error(reply.error.message)
    return reply.session
  }

  async function loseStateDirectory(): Promise<void> {
    await fleet.stop('target-agent', 'SIGKILL')
    await rm(path.join(fleet.directory, 'target-agent'), { recursive: true })
    await fleet.start('target-agent')
  }

  it('takes over what is published, with its changes, and unpublishes it', async () => {
    const id = await publish()
    const session = await fleet.untilState(id, 'published', 100)
    await fleet.sql(session, 'CREATE TABLE kept (n int)', production.database)
    await loseStateDirectory()
    await fleet.sql(session, 'INSERT INTO kept VALUES (1)', production.database)
    await fleet.howdahJson('republish', id, '--discard-changes')
    await fleet.untilState(id, 'published', 100)
    await fleet.howdahJson('unpublish', id, '--yes')
    expect((await fleet.untilState(id, 'closed', 100)).state).to.equal('closed')
  })

  it('performs again the step that it lost, and the publish completes', async () => {
    const id = await publish()
    await fleet.untilState(id, 'recovering', 100)
    await loseStateDirectory()
    await fleet.untilState(id, 'published', 100)
    await fleet.howdahJson('unpublish', id, '--yes')
  })
})
