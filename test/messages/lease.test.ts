import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { openConnection } from '../../messages/connection.ts'
import { holdLease, type Lease } from '../../messages/lease.ts'
import { COORDINATOR_LEASE } from '../../messages/topology.ts'
import type { TurnRecord } from '../../messages/turn.ts'
import { restartBroker, type TestVhost, testBroker, testVhost } from '../support/broker.ts'
import { poll } from '../support/poll.ts'
import { failure } from './failure.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
const OURS = 'one-20261130T160000Z-0a1b2c3d'
const OTHER = 'two-20261130T170000Z-4e5f6a7b'

describe('the lease of the coordinators', function () {
  this.timeout(60_000)
  let vhost: TestVhost
  const buses: Bus[] = []
  /** Names of those that hold it, in the order of their turns. */
  const turns: string[] = []
  const holders = new Set<string>()
  const shared: string[] = []

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
  })

  afterEach(async () => {
    await Promise.all(buses.splice(0).map((bus) => bus.close()))
    turns.length = 0
    expect([...holders]).to.deep.equal([])
  })

  after(() => vhost?.remove())

  async function hold(
    name: string,
    store = OURS,
    record = memory(),
    log = logger,
  ): Promise<{ bus: Bus; lease: Lease }> {
    const bus = await connectBus({ url: vhost.url, appId: name, role: 'coordinator', logger: log })
    buses.push(bus)
    const lease = await bus.holdLease({
      ...{ store, turns: record },
      onHeld() {
        expect([...holders]).to.deep.equal([])
        holders.add(name)
        turns.push(name)
      },
      onLost: () => void holders.delete(name),
    })
    return { bus, lease }
  }

  /** What a store remembers. Those that share it have the same; default: that of this test file. */
  function memory(known?: string[]): TurnRecord {
    const own = known ?? shared
    return {
      turns: async () => [...own],
      saveTurns: async (saved) => void own.splice(0, own.length, ...saved),
    }
  }

  /** Declarations that RabbitMQ has refused, by its log. */
  async function refusals(): Promise<number> {
    const { pid } = await testBroker()
    const environment = (await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0')
    const directory = environment.find((one) => one.startsWith('RABBITMQ_LOG_BASE='))?.split('=')[1] ?? ''
    const log = await readFile(path.join(directory, 'broker.log'), 'utf8')
    return log.split('\n').filter((line) => /resource_locked/i.test(line)).length
  }

  const until = (what: string, condition: () => boolean): Promise<unknown> =>
    poll(async () => condition() || undefined, { deadlineMs: 20_000, failure: () => `not so: ${what}` })

  it('is held by the first, and the second stands by until the first gives it up', async () => {
    const first = await hold('first')
    const second = await hold('second')
    expect(first.lease.heldSince).to.be.a('number')
    expect(second.lease.heldSince).to.equal(undefined)
    await first.lease.close()
    expect(first.lease.heldSince).to.equal(undefined)
    await until('the second holds it', () => second.lease.heldSince !== undefined)
    expect(turns).to.deep.equal(['first', 'second'])
  })

  it('is asked for again and again without an error in the log of the broker', async () => {
    const before = await refusals()
    await hold('first')
    await hold('second')
    const first = await poll(
      async () => {
        const now = await refusals()
        return now > before ? now : undefined
      },
      { deadlineMs: 10_000, failure: () => 'the first refusal is not in the log' },
    )
    await sleep(4_000)
    expect((await refusals()) - first).to.equal(0)
  })

  it('passes on when the connection of its holder ends', async () => {
    const first = await hold('first')
    const second = await hold('second')
    await first.bus.close()
    await until('the second holds it', () => second.lease.heldSince !== undefined)
  })

  it('is held by one of them again after the broker was restarted', async () => {
    const leases = [await hold('first'), await hold('second')].map(({ lease }) => lease)
    await restartBroker()
    await until('it was lost and obtained', () => turns.length > 1 && holders.size === 1)
    expect(leases.filter(({ heldSince }) => heldSince !== undefined)).to.have.length(1)
  })

  it('is lost and asked for again when somebody deletes its queue', async () => {
    const connection = await openConnection({
      url: vhost.url,
      shownAs: { name: 'deleted', version: undefined },
      purpose: 'consume',
      logger,
      waitMs: 10_000,
    })
    const seen: string[] = []
    const onHeld = (): void => void seen.push('held')
    const onLost = (): void => void seen.push('lost')
    const ended = new AbortController().signal
    const isTaken = async (): Promise<boolean> => false
    const lease = await holdLease(
      { store: OURS, onHeld, onLost },
      { connection: connection, isTaken, ended, tag: 'test', logger },
    )
    // Only its own connection may, and an operator's rabbitmqctl.
    const channel = await connection.openChannel()
    await channel.deleteQueue(COORDINATOR_LEASE)
    await until('it is held again', () => seen.length === 3)
    expect(seen).to.deep.equal(['held', 'lost', 'held'])
    await lease.close()
    await connection.close()
  })

  it('is refused to a coordinator with another store, which is told both', async () => {
    const first = await hold('first')
    const error = await failure(hold('stranger', OTHER))
    expect(error.code).to.equal('configuration')
    for (const named of [OURS, OTHER, 'howdah.coordinator.store', 'store.path']) {
      expect(error.message).to.include(named)
    }
    expect(first.lease.heldSince).to.be.a('number')
  })

  it('is refused to a coordinator with a copy of the store while one with another copy is active', async () => {
    const copy = [...shared]
    await hold('first')
    const error = await failure(hold('copy', OURS, memory(copy)))
    expect(error.code).to.equal('configuration')
    expect(error.message).to.include(hostname()).and.include('another copy of the store')
    const sharing = await hold('sharing')
    expect(sharing.lease.heldSince).to.equal(undefined)
  })

  it('passes to a coordinator with an older copy of the store, which says so', async () => {
    const copy = [...shared]
    const first = await hold('first')
    await first.bus.close()
    const lines: string[] = []
    const log = pino({ level: 'error' }, { write: (line: string) => void lines.push(line) })
    const second = await hold('second', OURS, memory(copy), log)
    expect(second.lease.heldSince).to.be.a('number')
    expect(lines.join('')).to.include('it is an older copy, or was restored').and.include(hostname())
    await second.bus.close()
    lines.length = 0
    await hold('third', OURS, memory(copy), log)
    expect(lines).to.deep.equal([])
    shared.splice(0, shared.length, ...copy)
  })

  it('passes without a word to one whose predecessor crashed between the store and the broker', async () => {
    const first = await hold('first')
    await first.bus.close()
    const [last = ''] = shared
    shared.splice(0, shared.length, 'a turn that never reached the broker', last)
    const lines: string[] = []
    const log = pino({ level: 'error' }, { write: (line: string) => void lines.push(line) })
    await hold('second', OURS, memory(), log)
    expect(lines).to.deep.equal([])
  })

  it('is refused to a coordinator with another store although no other is connected', async () => {
    const first = await hold('first')
    await first.bus.close()
    expect((await failure(hold('stranger', OTHER))).code).to.equal('configuration')
    const again = await hold('again')
    expect(again.lease.heldSince).to.be.a('number')
  })
})
