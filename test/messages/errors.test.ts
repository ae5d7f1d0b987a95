import { strict as assert } from 'node:assert'
import { readFile } from 'node:fs/promises'
import { expect } from 'chai'
import { ERROR_CODES, errorBody, HowdahError, isRetryable } from '../../messages/errors.ts'

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
    expect(errorBody(error)).to.deep.equal({ code: 'wal_missing', message: 'a segment', field: 'backup' })
  })

  it('is not retried when it is marked as final', () => {
    const error = new HowdahError('repository_unavailable', 'not mounted', { final: true })
    expect(error.retryable).to.equal(false)
    expect(isRetryable(errorBody(error))).to.equal(false)
    expect(isRetryable({ code: 'repository_unavailable' })).to.equal(true)
  })
})
