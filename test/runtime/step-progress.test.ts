import { expect } from 'chai'
import { type StepProgress, throttleProgress } from '../../agents/runtime/step-progress.ts'

describe('the progress of a step', () => {
  it('is sent as the latest report, with what earlier ones said', async () => {
    const { promise, resolve } = Promise.withResolvers<StepProgress>()
    const progress = throttleProgress(resolve)
    progress({ detail: 'copying', bytesTotal: 100 })
    progress({ bytesDone: 10 })
    progress({ bytesDone: 20 })
    expect(await promise).to.deep.equal({ detail: 'copying', bytesTotal: 100, bytesDone: 20 })
  })

  it('is sent once a second at most, however often it is reported', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const sentAt: number[] = []
    const progress = throttleProgress(() => {
      sentAt.push(Date.now())
      if (sentAt.length === 2) resolve()
    })
    const reports = setInterval(() => progress({ detail: 'copying' }), 5)
    await promise
    clearInterval(reports)
    expect((sentAt[1] ?? 0) - (sentAt[0] ?? 0)).to.be.at.least(900)
  })
})
