/** Owns a client of a test fleet: commands by message and by `bin/howdah`, waiting for states, SQL in an instance. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Bus } from '../../messages/bus.ts'
import type { SessionView, Usage } from '../../messages/values.ts'
import { cleanEnvironment, LAUNCHER, READY_DEADLINE_MS } from './fleet-roles.ts'
import { poll } from './poll.ts'
import { postgresAccount, runAs } from './postgres-cluster.ts'

const USAGE_DEADLINE_MS = 20_000

export interface CommandOutcome {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export interface FleetClient {
  /** Runs `bin/howdah` with the fleet's broker. */
  howdah(...args: string[]): Promise<CommandOutcome>
  /** Runs a verb with `--json`, expects success, and returns the document. */
  howdahJson<T>(...args: string[]): Promise<T>
  publish(...args: string[]): Promise<SessionView>
  show(session: string): Promise<SessionView>
  /** The usage of a session, once the target has reported it, which is soon after it was published. */
  usage(session: string): Promise<Usage>
  /** Waits until the session is in the state; fails at once when it ends in another one. */
  untilState(session: string, state: SessionView['state'], seconds?: number): Promise<SessionView>
  /** Runs SQL in a published instance as its superuser; rows are lines, columns separated by `|`. */
  sql(session: Pick<SessionView, 'id' | 'connection'>, text: string, database?: string): Promise<string>
}

export interface FleetClientOptions {
  readonly bus: Bus
  readonly brokerUrl: string
  /** What an error of `publish` shows besides itself. */
  readonly logTails: () => Promise<string>
}

export function createFleetClient({ bus, brokerUrl, logTails }: FleetClientOptions): FleetClient {
  const howdah: FleetClient['howdah'] = async (...args) => {
    const child = spawn(LAUNCHER, [...args, '--broker', brokerUrl], {
      cwd: '/',
      env: cleanEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    const [status] = (await once(child, 'close')) as [number | null]
    return { status: status ?? -1, stdout, stderr }
  }

  async function howdahJson<T>(...args: string[]): Promise<T> {
    const { status, stdout, stderr } = await howdah(...args, '--json')
    if (status !== 0) throw new Error(`howdah ${args.join(' ')} exited with ${status}: ${stderr}\n${stdout}`)
    return JSON.parse(stdout) as T
  }

  const show: FleetClient['show'] = async (session) => {
    const reply = await bus.request('session.show', { session })
    if (!reply.accepted) throw new Error(`session.show ${session}: ${reply.error.message}`)
    return reply.session
  }

  return {
    howdah,
    howdahJson,
    show,
    publish: (...args) =>
      howdahJson<SessionView>('publish', '--target', 'db-7', ...args).catch(async (error: Error) => {
        // The fleet, and its logs with it, may be removed before anybody can look.
        throw new Error(`${error.message}\n${await logTails()}`, { cause: error })
      }),
    usage: (session) =>
      poll(async () => (await show(session)).usage, {
        deadlineMs: USAGE_DEADLINE_MS,
        failure: () => `the usage of ${session} was not reported within ${USAGE_DEADLINE_MS / 1000} s`,
      }),
    async untilState(session, state, seconds = 60) {
      let view: SessionView | undefined
      return poll(
        async () => {
          view = await show(session)
          if (view.state === state) return view
          if (view.state === 'closed' || view.state === 'failed')
            throw new Error(`${session} is ${view.state}, not ${state}: ${JSON.stringify(view.error)}`)
          return undefined
        },
        {
          deadlineMs: seconds * 1000,
          failure: () => `${session} is still not ${state}: ${JSON.stringify(view)}`,
        },
      )
    },
    async sql({ id, connection }, text, database = 'postgres') {
      if (!connection) throw new Error(`${id} has no connection`)
      const { host, port, user } = connection
      const args = ['-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1', '-h', host, '-p', String(port)]
      const account = await postgresAccount()
      return (
        await runAs(account, 'psql', [...args, '-U', user, '-d', database, '-f', '-'], { input: text })
      ).trimEnd()
    },
  }
}

/** Resolves when both agents have registered with the coordinator. */
export async function untilAgentsAreOnline(bus: Bus): Promise<void> {
  let reply: object | undefined
  await poll(
    async () => {
      const listed = await bus.request('agent.list', {})
      reply = listed
      const online = listed.accepted ? listed.agents.filter((agent) => agent.online).length : 0
      return online === 2 ? true : undefined
    },
    { deadlineMs: READY_DEADLINE_MS, failure: () => `agents are not online: ${JSON.stringify(reply)}` },
  )
}

/** Unpublishes every session that the fleet still has. */
export async function removeSessions(bus: Bus, { untilState }: FleetClient): Promise<void> {
  const reply = await bus.request('session.list', {}, { timeoutMs: 10_000 })
  if (!reply.accepted) return
  for (const { id } of reply.sessions) {
    await bus.request('session.unpublish', { session: id })
    await untilState(id, 'closed', 30)
  }
}
