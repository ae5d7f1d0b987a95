import { rm } from 'node:fs/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import type { PublishedSession } from '../../agents/target/session/published-session.ts'
import { createSessionWatch, type SessionWatch } from '../../agents/target/session/session-watch.ts'
import { scratchDirectory } from '../support/scratch.ts'

describe('the watch over published sessions', function () {
  this.timeout(20_000)
  let watch: SessionWatch | undefined
  let directory: string
  let losses: string[]
  /** Reports that the broker does not take. */
  let refused: number

  beforeEach(() => {
    losses = []
    refused = 0
  })

  afterEach(async () => {
    watch?.close()
    await rm(directory, { recursive: true, force: true })
  })

  async function watchDead(repeatLostMs: number): Promise<PublishedSession> {
    directory = await scratchDirectory('howdah-watch-')
    const cachePath = directory
    const user = { name: 'root', uid: 0, gid: 0 }
    const session = {
      session: 'shop-1',
      cachePath,
      mountPoint: `${cachePath}/mount`,
      user,
    } as PublishedSession
    const never = async () => expect.fail('nothing can be measured of a session whose mount has ended')
    watch = createSessionWatch({
      lost: async ({ session: id, what }) => {
        losses.push(`${id} ${what}`)
        if (losses.length <= refused) throw new Error('RabbitMQ cannot be reached')
      },
      usage: never,
      reachability: never,
      changes: () => expect.fail('it has no changes'),
      repeatLostMs,
      logger: pino({ level: 'silent' }),
    })
    await watch.add(session)
    return session
  }

  async function untilLosses(count: number): Promise<void> {
    while (losses.length < count) await new Promise((resolve) => setTimeout(resolve, 10))
  }

  it('reports a loss again and again, since the report may get lost, until the session is removed', async () => {
    await watchDead(1)
    await untilLosses(3)
    expect(new Set(losses)).to.deep.equal(new Set(['shop-1 mount']))
    watch?.remove('shop-1')
    const told = losses.length
    await new Promise((resolve) => setTimeout(resolve, 1_200))
    expect(losses.length).to.equal(told)
  })

  it('reports a loss that the broker did not take at the next check', async () => {
    refused = 1
    await watchDead(3_600_000)
    await untilLosses(2)
    await new Promise((resolve) => setTimeout(resolve, 1_200))
    expect(losses).to.have.length(2)
  })
})
