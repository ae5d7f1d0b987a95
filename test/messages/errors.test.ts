import { strict as assert } from 'node:assert'
import { readFile } from 'node:fs/promises'
import { expect } from 'chai'
import { decodeError, encodeError, HEADER_BYTES } from '../../agents/dataplane/protocol/protocol.ts'
import { EVENTS } from '../../messages/definitions.ts'
import { encodeBody } from '../../messages/envelope.ts'
import { ERROR_CODES, errorBody, HowdahError, isRetryable } from '../../messages/errors.ts'
import { ErrorSchema } from '../../messages/primitives.ts'

/** An error as pg throws it for an error response of PostgreSQL. */
const ofPostgres = (code: string, message: string) =>
  Object.assign(new Error(message), { severity: 'FATAL', code })

function thrownBy(work: () => unknown): unknown {
  try {
    work()
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}

describe('an error of any kind', () => {
  const defects: readonly (readonly [string, unknown])[] = [
    ['a TypeError', thrownBy(() => (null as unknown as Date).toISOString())],
    ['a RangeError', thrownBy(() => new Date(Number.NaN).toISOString())],
    ['a SyntaxError', thrownBy(() => JSON.parse('{'))],
    ['a role that does not exist', ofPostgres('28000', 'role "postgres" does not exist')],
    ['an invalid database', ofPostgres('55000', 'cannot connect to invalid database "broken"')],
    ['a missing library', ofPostgres('58P01', 'could not access file "guard"')],
    ['a write to what is read-only', ofPostgres('25006', 'cannot execute INSERT in a read-only transaction')],
    ['what is no error at all', 'a string'],
  ]
  for (const [what, error] of defects) {
    it(`is a defect, which a retry would meet again: ${what}`, () => {
      const { code, message } = errorBody(error)
      expect(code).to.equal('internal')
      expect(ERROR_CODES[code].retryable).to.equal(false)
      expect(message).to.equal(error instanceof Error ? error.message : error)
    })
  }

  const transient: readonly (readonly [string, unknown])[] = [
    ['a server that stops', ofPostgres('57P01', 'terminating connection due to administrator command')],
    ['a connection that broke', ofPostgres('08006', 'connection failure')],
    ['too many connections', ofPostgres('53300', 'sorry, too many clients already')],
    ['a lock that another has', ofPostgres('55P03', 'could not obtain lock')],
    ['a transaction that lost', ofPostgres('40001', 'could not serialize access')],
    ['a connection that ended without an error', new Error('Connection terminated unexpectedly')],
  ]
  for (const [what, error] of transient) {
    it(`is transient, and worth a retry: ${what}`, () => {
      const { code } = errorBody(error)
      expect(code).to.equal('operation_failed')
      expect(ERROR_CODES[code].retryable).to.equal(true)
    })
  }

  it('is transient, and worth a retry: an error of the system', async () => {
    const error = await readFile('/proc/self/mem').catch((thrown: unknown) => thrown)
    assert(error instanceof Error && 'syscall' in error)
    expect(errorBody(error).code).to.equal('operation_failed')
  })

  it('keeps the code that it has', () => {
    const error = new HowdahError('wal_missing', 'a segment', { field: 'backup' })
    expect(errorBody(error)).to.deep.equal({
      code: 'wal_missing',
      message: 'a segment',
      field: 'backup',
      retryable: false,
    })
  })

  it('is not retried when it is marked so, although errors with its code usually are', () => {
    const error = new HowdahError('repository_unavailable', 'not mounted', { retryable: false })
    expect(error.retryable).to.equal(false)
    expect(isRetryable(errorBody(error))).to.equal(false)
    expect(isRetryable({ code: 'repository_unavailable' })).to.equal(true)
  })

  it('says in every message whether a retry can help, also when its sender left that to the table', () => {
    const base = { session: 'shop-1', step: 'recover', direction: 'run', sequence: 1 }
    for (const [code, { retryable }] of Object.entries(ERROR_CODES)) {
      const error = { code, message: 'm', details: [{ code, message: 'n' }] }
      const content = encodeBody(EVENTS['session.step-failed'].body, 'session.step-failed', {
        ...base,
        error,
      })
      expect(JSON.parse(String(content)).error).to.deep.equal({
        ...{ code, message: 'm', retryable },
        details: [{ code, message: 'n', retryable }],
      })
    }
  })

  it('keeps what its sender said about a retry, over messages and over the data plane', () => {
    const error = new HowdahError('repository_unavailable', 'not mounted', { retryable: false })
    expect(ErrorSchema.parse(error.toBody())).to.include({ retryable: false })
    expect(HowdahError.of(ErrorSchema.parse(error.toBody())).retryable).to.equal(false)
    expect(decodeError(encodeError(1, error.toBody()).subarray(HEADER_BYTES)).retryable).to.equal(false)
  })
})
