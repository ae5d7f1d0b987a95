/** Owns the tests of sessions that wait for `howdah retry`. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect } from 'chai'
import type { SessionView } from '../../messages/values.ts'
import type { World } from './world.ts'

/** Listens on a port until its standard input ends; prints a line when it does. */
const LISTENER = `
  const server = require('node:net').createServer().listen(Number(process.argv[1]), '127.0.0.1')
  server.on('listening', () => console.log('listening'))
  process.stdin.resume().on('end', () => process.exit())`

export function retryTests(of: () => World): void {
  describe('a session that does not resume by itself', () => {
    let session: SessionView

    const reconfigure = (resume: object) => of().fleet.reconfigure('coordinator', { resume })

    before(async () => {
      session = await of().publish()
      await of().keep(session, 1)
    })

    after(async () => {
      await of().unpublish(session.id)
      await reconfigure({ automatic: true })
    })

    async function postmaster(): Promise<number> {
      const [row] = await of().query(session, "SELECT pg_read_file('postmaster.pid', 0, 10) AS pid")
      return Number.parseInt(String(row?.pid), 10)
    }

    async function retry(): Promise<void> {
      const reply = await of().fleet.bus.request('session.retry', { session: session.id })
      expect(reply.accepted).to.equal(true)
    }

    it('waits where automatic resume is off, and resumes on retry', async () => {
      await reconfigure({ automatic: false })
      process.kill(await postmaster(), 'SIGKILL')
      const waiting = await of().until(session.id, 'waiting', ({ awaitsRetry }) => awaitsRetry === true)
      expect(waiting).to.include({ state: 'disrupted' })
      expect(waiting.error).to.include({ code: 'postgres_failed' })
      await retry()
      await of().expectWhole(await of().untilPublished(session.id), [1])
    })

    it('waits when its attempts are used up, and resumes on retry once the cause is gone', async () => {
      await reconfigure({ automatic: true, attempts: 3 })
      const { fleet } = of()
      const agent = fleet.pid('target-agent')
      const pid = await postmaster()
      // The agent must not notice the end of PostgreSQL before its port is taken.
      process.kill(agent, 'SIGSTOP')
      let listener: ChildProcess | undefined
      try {
        process.kill(pid, 'SIGKILL')
        listener = await listen(session.connection?.port ?? 0)
        process.kill(agent, 'SIGCONT')
        const waiting = await of().until(session.id, 'waiting', ({ awaitsRetry }) => awaitsRetry === true)
        expect(waiting).to.include({ state: 'disrupted' })
        expect(waiting.error).to.include({ code: 'port_taken' })
        const attempts = waiting.steps.filter(({ step, error }) => step === 'recover' && error)
        expect(attempts.length).to.equal(3)
        const [first, second] = attempts
        expect(Date.parse(second?.startedAt ?? '')).to.be.greaterThan(Date.parse(first?.finishedAt ?? ''))
      } finally {
        process.kill(agent, 'SIGCONT')
        listener?.stdin?.end()
        if (listener) await once(listener, 'exit')
      }
      await retry()
      await of().expectWhole(await of().untilPublished(session.id), [1])
    })

    async function listen(port: number): Promise<ChildProcess> {
      const deadline = Date.now() + 10_000
      for (;;) {
        const [program, ...args] = of().hosts.on('target-agent', [
          process.execPath,
          '-e',
          LISTENER,
          String(port),
        ])
        const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'] })
        const listening = once(child.stdout, 'data').then(() => true)
        const refused = once(child, 'exit').then(() => false)
        // PostgreSQL's children hold the port a little longer than their parent.
        if (await Promise.race([listening, refused])) return child
        if (Date.now() > deadline) throw new Error(`the port ${port} stays taken`)
      }
    }
  })
}
