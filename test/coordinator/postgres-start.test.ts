/** What a coordinator makes of a PostgreSQL server that refuses its first connections. The server is scripted. */
import { Writable } from 'node:stream'
import { expect } from 'chai'
import { pino } from 'pino'
import { openPostgresStore } from '../../coordinator/store/postgres.ts'
import type { HowdahError } from '../../messages/errors.ts'
import {
  type Refusal,
  type RefusingPostgres,
  refuseAsPostgres,
  WRONG_PASSWORD,
} from '../support/refusing-postgres.ts'

const STARTING: Refusal = { sqlState: '57P03', message: 'the database system is starting up' }
/** Far longer than a test takes. */
const LONG_MS = 300_000

describe('the PostgreSQL store at the start of a coordinator', function () {
  this.timeout(20_000)
  let server: RefusingPostgres
  let url = ''
  let refusals: Refusal[] = []
  let connections = 0
  let lines: string[] = []

  before(async () => {
    server = await refuseAsPostgres(() => {
      connections += 1
      return (refusals.length > 1 ? refusals.shift() : refusals[0]) ?? 'hangs up'
    })
    url = `postgres://howdah:secret@127.0.0.1:${server.port}/howdah`
  })

  after(() => server?.close())

  beforeEach(() => {
    connections = 0
    lines = []
  })

  async function failureOf(waitMs: number, at = url): Promise<HowdahError> {
    const destination = new Writable({
      write(chunk, _, done) {
        lines.push(String(chunk))
        done()
      },
    })
    const opening = openPostgresStore(at, pino({ level: 'info' }, destination), { waitMs })
    return opening.then(
      () => expect.fail('it opened'),
      (error: HowdahError) => error,
    )
  }

  it('is waited for while it starts, is overloaded or hangs up, until it refuses for good', async () => {
    const overloaded = { sqlState: '53300', message: 'sorry, too many clients already' }
    refusals = [STARTING, overloaded, 'hangs up', WRONG_PASSWORD]
    const error = await failureOf(LONG_MS)
    expect(error.toBody()).to.include({ code: 'configuration', retryable: false })
    expect(error.message).to.equal('store.url: password authentication failed for user "howdah"')
    expect(connections).to.equal(4)
  })

  for (const [what, sqlState] of Object.entries({
    'a wrong password': '28P01',
    'a user that may not log in': '28000',
    'a database that there is not': '3D000',
    'a missing privilege': '42501',
  })) {
    it(`is not waited for after ${what}`, async () => {
      refusals = [{ sqlState, message: what }]
      expect(await failureOf(LONG_MS)).to.include({ code: 'configuration', message: `store.url: ${what}` })
      expect(connections).to.equal(1)
      expect(lines).to.deep.equal([])
    })
  }

  it('is not waited for when its URL is none', async () => {
    expect(await failureOf(LONG_MS, 'postgres://howdah@[::1/howdah')).to.include({ code: 'configuration' })
  })

  it('can be tried again when it was still starting at the deadline, and the log said so once', async () => {
    refusals = [STARTING]
    const error = await failureOf(1_000)
    expect(error.toBody()).to.include({ code: 'operation_failed', retryable: true })
    expect(error.message).to.equal(
      'store.url: the store could not be used within 1 s: the database system is starting up',
    )
    expect(connections).to.be.greaterThan(1)
    expect(lines).to.have.length(1)
    expect(lines[0]).to.include('the store cannot be used yet').and.to.include('is starting up')
    expect(lines[0]).to.not.include('secret')
  })

  it('can be tried again when nothing listens there', async () => {
    const error = await failureOf(0, 'postgres://127.0.0.1:1/none')
    expect(error.toBody()).to.include({ code: 'operation_failed', retryable: true })
    expect(error.message).to.match(/^store\.url: .*ECONNREFUSED/)
    const several = await failureOf(0, 'postgres://localhost:1/none')
    expect(several.message).to.match(/^store\.url: .*ECONNREFUSED/)
  })
})
