import { expect } from 'chai'
import { HowdahError } from '../../messages/errors.ts'

/** The `HowdahError` that a promise rejects with. */
export async function failure(promise: Promise<unknown>): Promise<HowdahError> {
  const error = await promise.then(
    () => new Error('it did not fail'),
    (thrown: unknown) => thrown,
  )
  expect(error).to.be.instanceOf(HowdahError)
  return error as HowdahError
}
