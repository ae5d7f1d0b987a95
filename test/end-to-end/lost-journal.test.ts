import { rm } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import { useProductionFleet } from '../support/production-fleet.ts'

describe('a target agent that lost its state directory with the journal', function () {
  this.timeout(120_000)
  const made = useProductionFleet()

  async function loseStateDirectory(): Promise<void> {
    await made.fleet.stop('target-agent', 'SIGKILL')
    await rm(path.join(made.fleet.directory, 'target-agent'), { recursive: true })
    await made.fleet.start('target-agent')
  }

  it('takes over what is published, with its changes, and unpublishes it', async () => {
    const id = await made.publish()
    const session = await made.fleet.untilState(id, 'published', 100)
    await made.fleet.sql(session, 'CREATE TABLE kept (n int)', made.production.database)
    await loseStateDirectory()
    await made.fleet.sql(session, 'INSERT INTO kept VALUES (1)', made.production.database)
    await made.fleet.howdahJson('republish', id, '--discard-changes')
    await made.fleet.untilState(id, 'published', 100)
    await made.fleet.howdahJson('unpublish', id, '--yes')
    expect((await made.fleet.untilState(id, 'closed', 100)).state).to.equal('closed')
  })

  it('performs again the step that it lost, and the publish completes', async () => {
    const id = await made.publish()
    await made.fleet.untilState(id, 'recovering', 100)
    await loseStateDirectory()
    await made.fleet.untilState(id, 'published', 100)
    await made.fleet.howdahJson('unpublish', id, '--yes')
  })
})
