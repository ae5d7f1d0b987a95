import { expect } from 'chai'
import type { Readiness } from '../../agents/target/postgres/connections/connection.ts'
import type { InstanceRecord } from '../../agents/target/postgres/process/record.ts'
import { createRecoveryController } from '../../agents/target/postgres/recovery/recovery-controller.ts'
import type { LogReader } from '../../agents/target/postgres/recovery/startup-log.ts'
import type { InstanceSpec } from '../../agents/target/postgres/specification.ts'
import { HowdahError } from '../../messages/errors.ts'

const SPEC: InstanceSpec = {
  ...{ session: 'shop-1', mountPoint: '/nonexistent/mount', cachePath: '/nonexistent/cache' },
  ...{ binaries: '/usr/bin', version: '15', user: { name: 'postgres', uid: 1, gid: 1 }, port: 5433 },
  recoverTo: { type: 'latest' },
}
const RECORD: InstanceRecord = { pid: 1, startTime: '1', logOffset: 0, segments: [], warnings: [] }
const LOG: LogReader = {
  ...{ poll: async () => [], lastRestored: undefined, absent: undefined, incomplete: undefined, reasons: [] },
  ...{ archiveEnded: false, reached: {}, sqlStates: new Set<string>(), close: async () => undefined },
}
const ANSWERED = {
  connectedAs: { user: 'postgres', database: 'postgres' },
  serverState: { configLoaded: 0, walSegment: undefined },
  subscriptions: [],
}
const READY: Readiness = { state: 'ready', ...ANSWERED }
const PAUSED: Readiness = { state: 'paused', at: { lsn: '0/3000148' }, waitsForWal: false, ...ANSWERED }
const RECOVERING: Readiness = {
  ...{ state: 'recovering', at: { lsn: '0/3000148' }, waitsForWal: false },
  ...ANSWERED,
}

describe('A recovering server', () => {
  const controller = (spec: Partial<InstanceSpec> = {}) =>
    createRecoveryController({ ...SPEC, ...spec }, RECORD, LOG)

  it('is waited for while it starts, and while it replays WAL of an archive that has more', async () => {
    const { next, acted } = controller()
    expect(await next({ state: 'starting' })).to.equal(undefined)
    expect(await next(RECOVERING)).to.equal(undefined)
    expect(acted).to.equal(false)
  })

  it('is waited for at the end of the archive unless it is a standby, which would wait there without end', async () => {
    const ended = { ...LOG, archiveEnded: true }
    const { next, acted } = createRecoveryController(SPEC, RECORD, ended)
    expect(await next({ state: 'starting' })).to.equal(undefined)
    expect(await next(RECOVERING)).to.equal(undefined)
    expect(acted).to.equal(false)
    const standby = createRecoveryController({ ...SPEC, afterRecovery: 'pause' }, RECORD, ended)
    const error = await standby.next({ state: 'starting' }).catch((cause: unknown) => cause)
    expect(error).to.be.instanceOf(HowdahError)
  })

  it('is usable when it is promoted', async () => {
    expect(await controller().next(READY)).to.equal(READY)
  })

  it('is usable at its target when it is to pause there', async () => {
    const { next, warnings } = controller({ afterRecovery: 'pause' })
    expect(await next(PAUSED)).to.equal(PAUSED)
    expect(warnings).to.deep.equal([])
  })

  it('is usable with a warning when it was promoted instead of paused', async () => {
    const { next, warnings } = controller({ afterRecovery: 'pause' })
    expect(await next(READY)).to.equal(READY)
    expect(warnings.join()).to.match(/did not pause/)
  })

  it('has failed when it refuses every connection', async () => {
    const error = await controller()
      .next({ state: 'refused', reason: 'No superuser is let in.' })
      .catch((cause: unknown) => cause)
    expect(error).to.be.instanceOf(HowdahError)
    expect((error as HowdahError).message).to.match(/No superuser is let in\.$/)
  })
})
