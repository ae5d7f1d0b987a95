import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect } from 'chai'
import { pino } from 'pino'
import { type Journal, openJournal } from '../../agents/runtime/journal.ts'
import {
  createStepRunner,
  type StepHandler,
  type StepRunner,
  type StepRunnerOptions,
} from '../../agents/runtime/step-runner.ts'
import { HowdahError } from '../../messages/errors.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import { command, MOUNTED } from './commands.ts'

interface ReportedEvent {
  readonly type: string
  readonly session: string
  readonly direction: string
  readonly sequence: number
  readonly error?: { code: string }
  readonly detail?: string
  readonly highest?: number
}

describe('the step runner', () => {
  let directory: string
  let reported: ReportedEvent[]
  let emitFails: ((type: string, body: unknown) => Error | undefined) | undefined
  const runners: { runner: StepRunner; close: () => Promise<void> }[] = []

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'howdah-runtime-'))
    reported = []
    emitFails = undefined
  })

  afterEach(async () => {
    for (const { close } of runners.splice(0)) await close()
    await rm(directory, { recursive: true })
  })

  /** `more`: handlers in place of `mount`, another journal, and limits. */
  function startRunner(
    mount: Partial<StepHandler<'mount'>>,
    more: Partial<StepRunnerOptions> = {},
  ): StepRunner {
    const journal = more.journal ?? openJournal(join(directory, 'journal.sqlite'))
    const handler: StepHandler<'mount'> = {
      run: async () => MOUNTED,
      undo: async () => ({ undone: [] }),
      ...mount,
    }
    const runner = createStepRunner({
      handlers: { mount: handler },
      emit: async (type, body) => {
        const error = emitFails?.(type, body)
        if (error) throw error
        reported.push({ type, ...(body as unknown as Omit<ReportedEvent, 'type'>) })
      },
      logger: pino({ level: 'silent' }),
      ...more,
      journal,
    })
    const close = async () => {
      await runner.close()
      journal.close()
    }
    runners.push({ runner, close })
    return runner
  }

  /** Ends the first runner as a process that stops does. */
  async function stopRunner(): Promise<void> {
    await runners.shift()?.close()
  }

  async function until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2))
  }

  const outcomes = () => reported.filter(({ type }) => /done|failed/.test(type))

  it('reports that a step began and that it is done', async () => {
    startRunner({}).accept('run', command('s1', 1))
    await until(() => outcomes().length === 1)
    expect(reported.map(({ type }) => type)).to.deep.equal(['session.step-started', 'session.step-done'])
    expect(reported[1]).to.deep.include({ session: 's1', direction: 'run', sequence: 1, result: MOUNTED })
  })

  it('reports the error code of a step that failed', async () => {
    const run = async () => Promise.reject(new HowdahError('space_low', 'too little'))
    startRunner({ run }).accept('run', command('s1', 1))
    await until(() => outcomes().length === 1)
    expect(outcomes()[0]).to.include({ type: 'session.step-failed' })
    expect(outcomes()[0]?.error).to.deep.equal({ code: 'space_low', message: 'too little', retryable: false })
  })

  it('runs a step once although its command arrives again while it runs', async () => {
    let runs = 0
    const release = Promise.withResolvers<void>()
    const runner = startRunner({
      async run() {
        runs += 1
        await release.promise
        return MOUNTED
      },
    })
    runner.accept('run', command('s1', 1))
    await until(() => runs === 1)
    runner.accept('run', command('s1', 1))
    release.resolve()
    await until(() => outcomes().length === 1)
    expect(runs).to.equal(1)
    expect(reported.filter(({ type }) => type === 'session.step-started')).to.have.length(2)
  })

  it('reports the outcome again when the command of a finished step arrives again', async () => {
    let runs = 0
    const runner = startRunner({
      async run() {
        runs += 1
        return MOUNTED
      },
    })
    runner.accept('run', command('s1', 1))
    await until(() => outcomes().length === 1)
    runner.accept('run', command('s1', 1))
    await until(() => outcomes().length === 2)
    expect(runs).to.equal(1)
    expect(outcomes()[1]).to.deep.equal(outcomes()[0])
  })

  it('aborts a running step that is to be undone, waits for its end, and reports the undo only', async () => {
    const order: string[] = []
    const runner = startRunner({
      async run(_, { signal }) {
        order.push('run')
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
        order.push('aborted')
        throw signal.reason
      },
      async undo() {
        order.push('undo')
        return { undone: ['unmounted'] }
      },
    })
    runner.accept('run', command('s1', 1))
    await until(() => order.length === 1)
    runner.accept('undo', command('s1', 2))
    await until(() => outcomes().length === 1)
    expect(order).to.deep.equal(['run', 'aborted', 'undo'])
    expect(outcomes()[0]).to.include({ type: 'session.step-done', direction: 'undo', sequence: 2 })
  })

  it('hands a step that ignores its abort signal to the next one, which may be what lets it end', async () => {
    const order: string[] = []
    let endStep = (): void => undefined
    const runner = startRunner({
      async run() {
        order.push('run')
        await new Promise<void>((resolve) => {
          endStep = resolve
        })
        order.push('ended')
        return MOUNTED
      },
      async undo(_, { orphan }) {
        order.push('undo')
        endStep()
        await orphan
        order.push('undone')
        return { undone: [] }
      },
    })
    runner.accept('run', command('s1', 1))
    await until(() => order.length === 1)
    runner.accept('undo', command('s1', 2))
    await until(() => outcomes().length === 1)
    expect(order).to.deep.equal(['run', 'undo', 'ended', 'undone'])
    expect(outcomes()[0]).to.include({ direction: 'undo', sequence: 2 })
  })

  it('does not run a step that a later one superseded', async () => {
    let runs = 0
    const runner = startRunner({
      async run() {
        runs += 1
        return MOUNTED
      },
    })
    runner.accept('undo', command('s1', 2))
    runner.accept('run', command('s1', 1))
    await until(() => outcomes().length === 1)
    expect(runs).to.equal(0)
  })

  it('runs the steps of different sessions side by side', async () => {
    let running = 0
    const both = Promise.withResolvers<void>()
    const runner = startRunner({
      async run() {
        running += 1
        if (running === 2) both.resolve()
        await both.promise
        return MOUNTED
      },
    })
    runner.accept('run', command('s1', 1))
    runner.accept('run', command('s2', 1))
    await until(() => outcomes().length === 2)
  })

  it('has nothing to undo in a session that it never saw', async () => {
    startRunner({}).accept('undo', command('s9', 1))
    await until(() => outcomes().length === 1)
    expect(outcomes()[0]).to.deep.include({ type: 'session.step-done', result: { undone: [] } })
  })

  it('fails a step for which it has no handler', async () => {
    startRunner({}).accept('run', command('s1', 1, 'recover'))
    await until(() => outcomes().length === 1)
    expect(outcomes()[0]?.type).to.equal('session.step-failed')
  })

  it('reports an outcome again until the broker has confirmed it', async () => {
    let refusals = 0
    emitFails = (type) => {
      if (type !== 'session.step-done' || refusals === 2) return undefined
      refusals += 1
      return new HowdahError('broker_unavailable', 'away')
    }
    startRunner({}).accept('run', command('s1', 1))
    await until(() => outcomes().length === 1)
    expect(refusals).to.equal(2)
  })

  it('reports a failure when an outcome breaks the contract and can never be sent', async () => {
    emitFails = (type) =>
      type === 'session.step-done' ? new HowdahError('message_too_large', 'too long') : undefined
    startRunner({}).accept('run', command('s1', 1))
    await until(() => outcomes().length === 1)
    expect(outcomes()[0]?.error?.code).to.equal('internal')
  })

  it('repeats a step that an earlier process did not finish', async () => {
    const hang: StepHandler<'mount'>['run'] = (_, { signal }) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    startRunner({ run: hang }).accept('run', command('s1', 1))
    await until(() => reported.length === 1)
    await stopRunner()
    startRunner({}).resume()
    await until(() => outcomes().length === 1)
    expect(outcomes()[0]).to.include({ type: 'session.step-done', sequence: 1 })
  })

  it('reports an outcome that an earlier process could not report, without running the step again', async () => {
    let tries = 0
    emitFails = (type) => {
      if (type !== 'session.step-done') return undefined
      tries += 1
      return new HowdahError('broker_unavailable', 'away')
    }
    startRunner({}).accept('run', command('s1', 1))
    await until(() => tries > 0)
    await stopRunner()
    emitFails = undefined
    let runs = 0
    startRunner({
      async run() {
        runs += 1
        return MOUNTED
      },
    }).resume()
    await until(() => outcomes().length === 1)
    expect(runs).to.equal(0)
  })

  it('deletes old steps that are confirmed or superseded, and no others', async () => {
    const journal = openJournal(join(directory, 'journal.sqlite'))
    for (const sequence of [1, 2, 3]) journal.accept('run', command('s1', sequence))
    journal.accept('run', command('s2', 1))
    journal.finish('s2', 1, { ok: true, result: {} })
    journal.confirm('s2', 1)
    journal.prune(new Date(Date.now() + 60_000))
    journal.close()
    const db = new DatabaseSync(join(directory, 'journal.sqlite'))
    const left = db.prepare('SELECT session, sequence FROM step').all()
    db.close()
    expect(left.map(({ session, sequence }) => [session, sequence])).to.deep.equal([['s1', 3]])
  })

  describe('with one place for steps and one for exports', () => {
    /** What runs: `run mount s1`. Each ends when it is aborted. */
    let active: string[]

    beforeEach(() => {
      active = []
    })

    function startBusyRunner(): StepRunner {
      const handler = (name: string): StepHandler<'mount'> & StepHandler<'export'> => ({
        async run({ session }, { signal }) {
          active.push(`run ${name} ${session}`)
          await new Promise((resolve) => signal.addEventListener('abort', resolve))
          return { ...MOUNTED, databases: [] }
        },
        async undo({ session }) {
          active.push(`undo ${name} ${session}`)
          return { undone: [] }
        },
      })
      const handlers = { mount: handler('mount'), export: handler('export') }
      return startRunner({}, { handlers, concurrency: 1, exports: 1 })
    }

    const waiting = (session: string) =>
      reported.filter((event) => event.session === session && /^waits for/.test(event.detail ?? ''))

    it('undoes at once, whatever else runs', async () => {
      const runner = startBusyRunner()
      runner.accept('run', command('s1', 1))
      runner.accept('run', command('s2', 1))
      runner.accept('undo', command('s3', 1))
      await until(() => active.includes('undo mount s3'))
      expect(active).not.to.include('run mount s2')
    })

    it('publishes while exports wait for each other, and says that they wait', async () => {
      const runner = startBusyRunner()
      runner.accept('run', command('s1', 1, 'export'))
      runner.accept('run', command('s2', 1, 'export'))
      runner.accept('run', command('s3', 1))
      await until(() => active.includes('run mount s3'))
      await until(() => waiting('s2').length === 1)
      expect(active).to.deep.equal(['run export s1', 'run mount s3'])
    })

    it('says again that a step waits when its command comes again', async () => {
      const runner = startBusyRunner()
      runner.accept('run', command('s1', 1))
      runner.accept('run', command('s2', 1))
      await until(() => waiting('s2').length === 1)
      runner.accept('run', command('s2', 1))
      await until(() => waiting('s2').length === 2)
    })

    it('undoes a step that still waits for its place', async () => {
      const runner = startBusyRunner()
      runner.accept('run', command('s1', 1))
      runner.accept('run', command('s2', 1))
      await until(() => waiting('s2').length === 1)
      runner.accept('undo', command('s2', 2))
      await until(() => active.includes('undo mount s2'))
      expect(active).not.to.include('run mount s2')
    })

    it('gives a place that became free to the one that waited longest', async () => {
      const runner = startBusyRunner()
      for (const session of ['s1', 's2', 's3']) runner.accept('run', command(session, 1))
      await until(() => waiting('s3').length === 1)
      runner.accept('undo', command('s1', 2))
      await until(() => active.includes('run mount s2'))
      expect(active).not.to.include('run mount s3')
    })
  })

  describe('with a journal that cannot be written', () => {
    const full = new Error('database or disk is full')

    /** A journal whose `broken` functions fail. */
    function startFailing(broken: Set<keyof Journal>): StepRunner {
      const journal = openJournal(join(directory, 'journal.sqlite'))
      const failing = new Proxy(journal, {
        get(target, name: keyof Journal) {
          if (!broken.has(name)) return target[name]
          return () => {
            throw full
          }
        },
      })
      return startRunner({}, { journal: failing, concurrency: 1 })
    }

    for (const name of ['finish', 'isLatest', 'confirm'] as const) {
      it(`goes on once it can, and says so meanwhile: ${name}`, async () => {
        const broken = new Set<keyof Journal>([name])
        startFailing(broken).accept('run', command('s1', 1))
        if (name === 'confirm') await until(() => outcomes().length === 1)
        else await until(() => reported.some(({ detail }) => /disk is full/.test(detail ?? '')))
        broken.clear()
        await until(() => outcomes().length > 0)
        expect(outcomes()[0]).to.include({ type: 'session.step-done', session: 's1' })
      })
    }

    it('keeps no place for a step that has ended', async () => {
      const broken = new Set<keyof Journal>(['finish'])
      const runner = startFailing(broken)
      runner.accept('run', command('s1', 1))
      await until(() => reported.some(({ detail }) => /disk is full/.test(detail ?? '')))
      runner.accept('run', command('s2', 1))
      await until(() =>
        reported.some(({ type, session }) => type === 'session.step-started' && session === 's2'),
      )
      broken.clear()
      await until(() => outcomes().length === 2)
    })

    it('takes no command, and blames none', () => {
      const runner = startFailing(new Set<keyof Journal>(['accept']))
      expect(() => runner.accept('run', command('s1', 1))).to.throw(Unavailable, /disk is full/)
    })
  })

  it('says how far its journal is when a coordinator with an older store sends a lower number', async () => {
    const runner = startRunner({})
    runner.accept('run', command('s1', 8))
    await until(() => outcomes().length === 1)
    runner.accept('undo', command('s1', 7))
    runner.accept('undo', command('s1', 8))
    const refusals = () => reported.filter(({ type }) => type === 'session.step-refused')
    await until(() => refusals().length === 2)
    expect(
      refusals().map(({ direction, sequence, highest }) => [direction, sequence, highest]),
    ).to.deep.equal([
      ['undo', 7, 8],
      ['undo', 8, 8],
    ])
  })
})
