/** `howdah unpublish` and changes that were not exported: whom it asks, and what it does without anybody to ask. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { expect } from 'chai'
import { Interruption } from '../../coordinator/cli/interruption.ts'
import { askYesOrNo } from '../../coordinator/cli/question.ts'
import { createFakeBus, type FakeBus, sessionView } from './fake-bus.ts'
import { run } from './run.ts'

const ID = 'main-x7f3k2'
const REFUSAL = 'the session "main-x7f3k2" holds changes in app that were not exported'

describe('howdah unpublish, with changes that were not exported', () => {
  let bus: FakeBus

  beforeEach(() => {
    bus = createFakeBus({
      'session.show': () => ({ accepted: true, session: sessionView({ state: 'closed' }) }),
      'session.unpublish': ({ unlessChanged }) =>
        unlessChanged === true
          ? { accepted: false, error: { code: 'changes_unexported', message: REFUSAL } }
          : { accepted: true, session: ID },
    })
  })

  const sent = () =>
    bus.requests.filter(({ type }) => type === 'session.unpublish').map(({ body }) => body as object)

  it('says where they are, asks, and goes on when the answer is yes', async () => {
    const { status, stderr } = run(['unpublish', ID, '--message-id', 'job-17'], { bus, answers: [true] })
    expect(await status).to.equal(0)
    expect(stderr()).to.include('holds changes in app')
    expect(sent()).to.deep.equal([{ session: ID, unlessChanged: true }, { session: ID }])
    // Another command under the same id would be refused.
    const ids = bus.requests.map(({ messageId }) => messageId)
    expect(ids.filter((id) => id === 'job-17')).to.have.length(1)
  })

  it('does nothing when the answer is no', async () => {
    const { status, stdout } = run(['unpublish', ID, '--json'], { bus, answers: [false] })
    expect(await status).to.equal(1)
    expect(JSON.parse(stdout()).error).to.include({ code: 'cancelled' })
    expect(sent()).to.deep.equal([{ session: ID, unlessChanged: true }])
  })

  it('refuses without a terminal, and does not wait for an answer', async () => {
    const { status, stdout, stderr } = run(['unpublish', ID, '--json'], { bus })
    expect(await status).to.equal(1)
    expect(JSON.parse(stdout()).error).to.include({ code: 'changes_unexported', message: REFUSAL })
    expect(stderr()).to.include('holds changes in app')
    expect(sent()).to.deep.equal([{ session: ID, unlessChanged: true }])
  })

  it('discards them without a question with --yes, under the message id that is given', async () => {
    const { status } = run(['unpublish', ID, '--yes', '--message-id', 'job-17'], { bus, answers: [] })
    expect(await status).to.equal(0)
    expect(sent()).to.deep.equal([{ session: ID }])
    expect(bus.requests.find(({ messageId }) => messageId === 'job-17')?.body).to.deep.equal({ session: ID })
  })

  it('asks nothing with --keep-cache, which keeps them', async () => {
    const { status } = run(['unpublish', ID, '--keep-cache'], { bus })
    expect(await status).to.equal(0)
    expect(sent()).to.deep.equal([{ session: ID, keepCache: true }])
  })
})

describe('a question on the terminal', () => {
  const never = new AbortController().signal

  for (const [answer, meaning] of [
    ['y\n', true],
    [' Yes \n', true],
    ['n\n', false],
    ['\n', false],
    ['yes, please\n', false],
    ['', false],
  ] as const) {
    it(`is answered ${JSON.stringify(answer)}, which is ${meaning ? 'yes' : 'no'}`, async () => {
      const [input, output] = [new PassThrough(), new PassThrough()]
      input.end(answer)
      expect(await askYesOrNo('Really?', { input, output, signal: never })).to.equal(meaning)
      output.end()
      expect(await text(output)).to.equal('Really? [y/N] ')
    })
  }

  it('ends with a signal', async () => {
    const stop = new AbortController()
    const asked = askYesOrNo('Really?', {
      input: new PassThrough(),
      output: new PassThrough(),
      signal: stop.signal,
    }).then(
      () => undefined,
      (error: unknown) => error,
    )
    stop.abort(new Interruption('SIGINT'))
    expect(await asked).to.be.instanceOf(Interruption)
  })

  // A terminal of its own, by script(1), as somebody sits at it.
  it('is shown at once, and Ctrl-C there is a signal', async function () {
    this.timeout(20_000)
    const program = path.resolve(import.meta.dirname, 'question-main.ts')
    const command = `${process.execPath} --disable-warning=ExperimentalWarning ${program}`
    const child = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] })
    let shown = ''
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      if (!shown.includes('[y/N]') && (shown + part).includes('[y/N]')) child.stdin.write('\x03')
      shown += part
    })
    const [status] = await once(child, 'close')
    expect(shown).to.include('Really? [y/N] ')
    expect(status).to.equal(130)
  })
})
