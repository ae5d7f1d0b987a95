import { expect } from 'chai'
import { createLogger } from '../../config/logger.ts'

describe('a log file on a disk that is full', () => {
  it('lacks lines, and does not end the process that writes them', async () => {
    const failures: unknown[] = []
    const note = (error: unknown) => failures.push(error)
    process.prependListener('uncaughtException', note)
    try {
      const logger = createLogger('test', 'info', { file: '/dev/full' })
      for (let line = 0; line < 3; line++) logger.info('there is no space for this')
      // Streams report errors in a later turn.
      await new Promise((resolve) => setImmediate(resolve))
      expect(failures).to.deep.equal([])
    } finally {
      process.removeListener('uncaughtException', note)
    }
  })
})
