import { expect } from 'chai'
import {
  followMount,
  mountGone,
  type WatchedMount,
  withReadFailure,
} from '../../agents/target/steps/mount-during-recovery.ts'
import { HowdahError } from '../../messages/errors.ts'

type Status = Awaited<ReturnType<WatchedMount['status']>>

const STATUS: Status = {
  ...{ connected: true, lostAt: undefined, lastError: undefined, failedReads: 0, failedReadsEver: 0 },
  ...{ fetchedBytes: 0, totalBytes: 100, changedBytes: 0, walBytes: 0, neededBytes: 0 },
  ...{ quotaBytes: null, committedBytes: null },
}

const mount = (status: Partial<Status> | Error, hangs = false): WatchedMount => ({
  hangs,
  status: async () => {
    if (status instanceof Error) throw status
    return { ...STATUS, ...status }
  },
})

const FAILURE = new HowdahError('postgres_failed', 'PostgreSQL ended with status 1.', { field: 'recoverTo' })

describe('A start of PostgreSQL that failed', () => {
  it('keeps its error where no read of the mount failed, or the mount does not answer', async () => {
    expect(await withReadFailure(FAILURE, mount({}), 0)).to.equal(FAILURE)
    expect(await withReadFailure(FAILURE, mount({ failedReadsEver: 3 }), 3)).to.equal(FAILURE)
    expect(await withReadFailure(FAILURE, mount(mountGone()), 0)).to.equal(FAILURE)
  })

  it('has the reason of a failed read in its error, with code and field as they were', async () => {
    const error = (await withReadFailure(
      FAILURE,
      mount({ lastError: 'block 7 is damaged' }),
      0,
    )) as HowdahError
    expect(error.toBody()).to.deep.include({ code: 'postgres_failed', field: 'recoverTo' })
    expect(error.message).to.equal('PostgreSQL ended with status 1. The mount says: block 7 is damaged')
    expect(error.cause).to.equal(FAILURE)
  })

  it('can be retried where the mount server was unreachable since PostgreSQL was started', async () => {
    const error = (await withReadFailure(FAILURE, mount({ failedReadsEver: 4 }), 3)) as HowdahError
    expect(error.code).to.equal('repository_unavailable')
    expect(error.retryable).to.equal(true)
  })
})

describe('The mount during a recovery', () => {
  it('has the bytes that it fetched reported until it is no longer followed', async () => {
    const { promise, resolve } = Promise.withResolvers<unknown>()
    const stop = followMount(mount({ fetchedBytes: 42 }), resolve, () => undefined)
    expect(await promise).to.deep.equal({ bytesDone: 42 })
    stop()
  })

  it('is reported as silent when it hangs', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const stop = followMount(mount(mountGone(), true), () => undefined, resolve)
    await promise
    stop()
  })
})
