/** What an operator sees of dead letters and of the audit stream on the command line. */
import { expect } from 'chai'
import type { AuditEntry } from '../../messages/audit.ts'
import type { AuditReading } from '../../messages/audit-reader.ts'
import type { DeadLetter } from '../../messages/dead-letter-view.ts'
import type { DeadLetters } from '../../messages/dead-letters.ts'
import { AUDIT_EXAMPLES } from '../../messages/examples.ts'
import { NOW, type RunOptions, run } from './run.ts'

const LETTER: DeadLetter = {
  ...{ id: '3f9a0c51b7de', reason: 'invalid_message: target: it is missing' },
  at: new Date(NOW.getTime() - 3_600_000),
  ...{ type: 'instance.publish', messageId: 'nightly-7', session: undefined },
  ...{ exchange: 'howdah.commands', routingKey: 'instance.publish', queue: 'howdah.coordinator' },
  ...{ user: 'howdah-client-ops', application: 'nightly', reportedBy: 'howdah-coordinator' },
  ...{
    headers: { 'howdah-version': 2 },
    content: Buffer.from('{"instance":"main"}'),
    originalBytes: undefined,
  },
}
const FAILED = {
  code: 'unauthorized',
  message: 'the dead letter 0a is not sent again',
  retryable: false,
} as const

function operator(calls: string[], entries: readonly AuditEntry[] = [], removed?: Date): RunOptions {
  const deadLetters: DeadLetters = {
    list: async () => [LETTER],
    find: async () => LETTER,
    async retry(id) {
      calls.push(`retry ${id}`)
      return LETTER
    },
    async retryAll() {
      calls.push('retry all')
      return { retried: 2, failed: [{ id: '0a', error: FAILED }] }
    },
    async drop(id) {
      calls.push(`drop ${id}`)
      return LETTER
    },
    async dropAll() {
      calls.push('drop all')
      return 3
    },
  }
  async function readAudit({ since, follow, onEntry, onRemoved }: AuditReading): Promise<void> {
    calls.push(`read since ${since?.toISOString()}, ${follow ? 'following' : 'once'}`)
    if (removed) onRemoved(removed)
    for (const entry of entries) await onEntry(entry)
  }
  return { operator: { deadLetters, readAudit } }
}

async function ended(args: readonly string[], options: RunOptions) {
  const { stdout, stderr, status } = run(args, options)
  return { status: await status, stdout: stdout(), stderr: stderr() }
}

describe('howdah dead-letters', () => {
  let calls: string[]

  beforeEach(() => {
    calls = []
  })

  it('lists each with its age, sender and reason', async () => {
    const { stdout } = await ended(['dead-letters', 'list'], operator(calls))
    expect(stdout).to.match(/^3f9a0c51b7de +1 h +instance.publish +howdah-client-ops .* it is missing$/m)
    const { stdout: json } = await ended(['dead-letters', 'list', '--json'], operator(calls))
    expect(JSON.parse(json).deadLetters[0]).to.include({ id: LETTER.id, at: LETTER.at?.toISOString() })
    expect(JSON.parse(json).deadLetters[0]).not.to.have.property('body')
  })

  it('shows one with headers and body', async () => {
    const { stdout } = await ended(['dead-letters', 'show', LETTER.id], operator(calls))
    expect(stdout)
      .to.include('howdah.commands, routing key instance.publish')
      .and.include('"instance": "main"')
    const { stdout: json } = await ended(['dead-letters', 'show', LETTER.id, '--json'], operator(calls))
    expect(JSON.parse(json)).to.deep.include({ body: { instance: 'main' }, headers: { 'howdah-version': 2 } })
  })

  for (const action of ['retry', 'drop']) {
    it(`${action} wants one or all of them`, async () => {
      for (const args of [[], [LETTER.id, '--all']]) {
        const { status, stderr } = await ended(['dead-letters', action, ...args], operator(calls))
        expect(status).to.equal(2)
        expect(stderr).to.include('--all')
      }
      expect(calls).to.deep.equal([])
      expect((await ended(['dead-letters', action, LETTER.id], operator(calls))).status).to.equal(0)
      expect(calls).to.deep.equal([`${action} ${LETTER.id}`])
    })
  }

  it('says what could not be sent again, and fails', async () => {
    const { status, stdout, stderr } = await ended(['dead-letters', 'retry', '--all'], operator(calls))
    expect(status).to.equal(1)
    expect(stdout).to.include('2 messages sent again, 1 left')
    expect(stderr).to.include(FAILED.message)
  })

  it('asks before it drops all of them', async () => {
    const all = ['dead-letters', 'drop', '--all']
    expect(await ended(all, operator(calls))).to.include({ status: 1 })
    expect(await ended(all, { ...operator(calls), answers: [false] })).to.include({ status: 1 })
    expect(calls).to.deep.equal([])
    expect((await ended(all, { ...operator(calls), answers: [true] })).stdout).to.include(
      'dropped 3 dead letters',
    )
    expect((await ended([...all, '--yes'], operator(calls))).status).to.equal(0)
  })
})

describe('howdah audit', () => {
  const entries = Object.entries(AUDIT_EXAMPLES).map(([type, body]) => ({ type, body }) as AuditEntry)

  it('shows who asked for what, and how sessions changed', async () => {
    const calls: string[] = []
    const { stdout, stderr } = await ended(['audit', '--since', '2h'], operator(calls, entries))
    expect(calls).to.deep.equal(['read since 2025-11-22T04:33:10.000Z, once'])
    expect(stdout).to.match(/main-x7f3k2 +howdah-client-ops: instance.publish accepted repository=prod/)
    expect(stdout).to.match(/main-x7f3k2 +recovering → published$/m)
    expect(stderr).to.equal('')
  })

  it('gives a document for each entry, and of one session only if that is asked for', async () => {
    const json = await ended(['audit', '--json', '--session', 'main-x7f3k2'], operator([], entries))
    expect(
      json.stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).to.deep.equal(JSON.parse(JSON.stringify(entries)))
    expect((await ended(['audit', '--json', '--session', 'other'], operator([], entries))).stdout).to.equal(
      '',
    )
    expect((await ended(['audit', '--session', 'no id'], operator([]))).status).to.equal(2)
  })

  it('says that entries are gone', async () => {
    const { stdout, stderr } = await ended(['audit', '--json'], operator([], [], NOW))
    expect(JSON.parse(stdout)).to.deep.equal({ type: 'audit.removed', body: { before: NOW.toISOString() } })
    expect(stderr).to.include('are gone')
  })
})
