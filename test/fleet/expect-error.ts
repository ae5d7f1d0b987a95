/** Owns what a test says of an error: its code, and what its message must name. */
import { expect } from 'chai'

export async function expectError(work: Promise<unknown>, code: string, ...texts: string[]): Promise<void> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason as { code?: string; message: string },
  )
  expect(error, 'an error').to.not.equal(undefined)
  for (const text of texts) expect(error?.message).to.include(text)
  expect(error?.code).to.equal(code)
}
