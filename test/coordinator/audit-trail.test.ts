import { expect } from 'chai'
import { pino } from 'pino'
import { type AuditTrail, createAuditTrail } from '../../coordinator/audit-trail.ts'
import type { WaitingAuditEntry } from '../../coordinator/store/store.ts'
import type { AuditEntry } from '../../messages/audit.ts'
import { HowdahError } from '../../messages/errors.ts'
import { auditEntry } from './store-values.ts'
import { until } from './test-coordinator.ts'

describe('the audit trail', () => {
  /** In the store. */
  let waiting: WaitingAuditEntry[]
  /** In the stream, by id. */
  let written: string[]
  /** What the stream answers. */
  let append: (entries: readonly AuditEntry[]) => Promise<void>
  let trail: AuditTrail

  beforeEach(() => {
    waiting = []
    written = []
    append = async (entries) => void written.push(...entries.map(({ body }) => body.id))
    trail = createAuditTrail({
      store: {
        auditEntries: async (limit) => waiting.slice(0, limit),
        audited: async (numbers) => {
          waiting = waiting.filter(({ number }) => !numbers.includes(number))
        },
      },
      log: { append: (entries) => append(entries), close: async () => {} },
      logger: pino({ level: 'silent' }),
      lookMs: 5,
      backoff: { firstMs: 1, maxMs: 2 },
    })
  })

  afterEach(() => trail.close())

  const save = (...ids: string[]): void => {
    for (const id of ids) waiting.push({ number: (waiting.at(-1)?.number ?? 0) + 1, entry: auditEntry(id) })
  }
  const isEmpty = async (): Promise<boolean> => waiting.length === 0

  it('writes what is saved, in its order, and forgets it then', async () => {
    const ids = Array.from({ length: 500 }, (_, index) => `e${index}`)
    save(...ids)
    trail.start()
    await until('everything is written', isEmpty)
    save('later')
    await until('what came later, too', isEmpty)
    expect(written).to.deep.equal([...ids, 'later'])
  })

  it('keeps everything while the stream cannot be written, and writes it then', async () => {
    const write = append
    let attempts = 0
    append = async () => {
      attempts += 1
      throw new HowdahError('broker_unavailable', 'no leader')
    }
    save('a', 'b')
    trail.start()
    await until('it was tried', async () => attempts > 2)
    expect(waiting).to.have.length(2)
    append = write
    await until('everything is written', isEmpty)
    expect(written).to.deep.equal(['a', 'b'])
  })

  it('writes again what it could not forget', async () => {
    const write = append
    append = async (entries) => {
      await write(entries)
      append = write
      throw new HowdahError('timeout', 'the confirm was lost')
    }
    save('a')
    trail.start()
    await until('it is written', isEmpty)
    expect(written).to.deep.equal(['a', 'a'])
  })

  it('writes nothing while another coordinator is active', async () => {
    trail.start()
    trail.pause()
    save('a')
    trail.start()
    await until('it is written', isEmpty)
    trail.pause()
    await trail.close()
    save('b')
    expect(written).to.deep.equal(['a'])
  })
})
