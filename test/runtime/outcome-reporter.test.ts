import { expect } from 'chai'
import { pino } from 'pino'
import type { StepOutcome } from '../../agents/runtime/journal.ts'
import { createOutcomeReporter } from '../../agents/runtime/outcome-reporter.ts'
import { HowdahError } from '../../messages/errors.ts'
import { command, MOUNTED } from './commands.ts'

describe('the report of an outcome', () => {
  const entry = {
    direction: 'run',
    command: command('s1', 1),
    outcome: { ok: true, result: MOUNTED },
  } as const
  let confirmed: number
  let finished: StepOutcome[]
  let sent: { readonly type: string; readonly messageId: string | undefined }[]

  beforeEach(() => {
    confirmed = 0
    finished = []
    sent = []
  })

  function makeReporter(refuse: () => Error | undefined, signal = new AbortController().signal) {
    return createOutcomeReporter({
      journal: {
        finish: (_session, _sequence, outcome) => finished.push(outcome),
        confirm: () => {
          confirmed += 1
        },
      },
      async emit(type, _body, messageId) {
        sent.push({ type, messageId })
        const error = refuse()
        if (error) throw error
      },
      signal,
      logger: pino({ level: 'silent' }),
    })
  }

  it('has the same message id each time, so that a duplicate is recognised', async () => {
    const reporter = makeReporter(() => undefined)
    reporter.report(entry)
    reporter.report(entry)
    await reporter.settled()
    expect(new Set(sent.map(({ messageId }) => messageId))).to.deep.equal(new Set(['s1.1.outcome']))
    expect(confirmed).to.equal(2)
  })

  it('replaces an outcome that breaks the contract in the journal, too', async () => {
    let refusals = 0
    const reporter = makeReporter(() =>
      ++refusals === 1 ? new HowdahError('message_too_large', 'too long') : undefined,
    )
    reporter.report(entry)
    await reporter.settled()
    expect(sent.map(({ type }) => type)).to.deep.equal(['session.step-done', 'session.step-failed'])
    expect(finished.map(({ ok }) => ok)).to.deep.equal([false])
  })

  it('stays as it is when the broker does not permit it for the moment, and is sent again', async () => {
    let refusals = 0
    const reporter = makeReporter(() =>
      ++refusals === 1 ? new HowdahError('configuration', 'no permission on howdah.events') : undefined,
    )
    reporter.report(entry)
    await reporter.settled()
    expect(sent.map(({ type }) => type)).to.deep.equal(['session.step-done', 'session.step-done'])
    expect(finished).to.deep.equal([])
    expect(confirmed).to.equal(1)
  })

  it('stays unconfirmed in the journal when the agent stops first', async () => {
    const stop = new AbortController()
    const reporter = makeReporter(() => {
      stop.abort()
      return new HowdahError('broker_unavailable', 'away')
    }, stop.signal)
    reporter.report(entry)
    await reporter.settled()
    expect(confirmed).to.equal(0)
  })
})
