import { expect } from 'chai'
import { pino } from 'pino'
import { type Presence, startPresenceReport } from '../../agents/runtime/presence-report.ts'

describe('the report of the sessions that are present on an agent', () => {
  let reported: Presence[]
  let present: string[]
  let fails: boolean
  let running: { close(): void } | undefined

  beforeEach(() => {
    reported = []
    present = ['s2', 's1']
    fails = false
  })

  afterEach(() => running?.close())

  function start(repeatMs: number): void {
    running = startPresenceReport({
      list: async () => present,
      async report(presence) {
        reported.push(presence)
        if (fails) throw new Error('RabbitMQ cannot be reached')
      },
      everyMs: 5,
      repeatMs,
      logger: pino({ level: 'silent' }),
    })
  }

  async function untilReports(count: number): Promise<void> {
    while (reported.length < count) await new Promise((resolve) => setTimeout(resolve, 2))
  }

  it('is made at once, and again when something has changed', async () => {
    start(3_600_000)
    await untilReports(1)
    await new Promise((resolve) => setTimeout(resolve, 50))
    present = ['s1']
    await untilReports(2)
    expect(reported).to.deep.equal([{ sessions: ['s1', 's2'] }, { sessions: ['s1'] }])
  })

  it('is made again after a while although nothing has changed', async () => {
    start(20)
    await untilReports(3)
  })

  it('is made again when the broker did not take it', async () => {
    fails = true
    start(3_600_000)
    await untilReports(2)
  })

  it('is bounded, and says how much it leaves out', async () => {
    present = Array.from({ length: 1234 }, (_, index) => `s${index}`)
    start(3_600_000)
    await untilReports(1)
    expect(reported[0]?.sessions).to.have.length(1000)
    expect(reported[0]?.more).to.equal(234)
  })
})
