/** Owns a real broker's virtual host with a real coordinator process on it, and agents that answer by a script. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import { type TestVhost, testVhost } from './broker.ts'
import { cleanEnvironment, LAUNCHER } from './fleet-roles.ts'
import { poll } from './poll.ts'
import { scratchDirectory } from './scratch.ts'
import { startScriptedAgent } from './scripted-agents.ts'

export interface ScriptedFleet {
  /** Of the virtual host. */
  readonly url: string
  startCoordinator(): Promise<void>
  stopCoordinator(signal: NodeJS.Signals): Promise<void>
  /** Of all coordinators so far. */
  log(): Promise<string>
  remove(): Promise<void>
}

export interface ScriptedFleetOptions {
  /** By which the coordinator reaches the broker, from the broker's URL. Default: directly. */
  readonly way?: (url: URL) => Promise<URL>
  /** Removed with the fleet. Default: a new one of the test run's broker. */
  readonly vhost?: TestVhost
}

/** The mount agent `main` serves a repository of that name; `db-7` is a target. */
export async function startScriptedFleet(options: ScriptedFleetOptions = {}): Promise<ScriptedFleet> {
  const { way = async (url) => url, vhost = await testVhost() } = options
  const directory = await scratchDirectory('howdah-scripted-')
  const config = path.join(directory, 'coordinator.json')
  const logFile = path.join(directory, 'coordinator.log')
  const agents: { close(): Promise<void> }[] = []
  let coordinator: ChildProcess | undefined

  const fleet: ScriptedFleet = {
    url: vhost.url,
    async startCoordinator() {
      const log = openSync(logFile, 'a')
      const args = ['coordinator', '--json', '--config', config]
      coordinator = spawn(LAUNCHER, args, { env: cleanEnvironment(), stdio: ['ignore', 'pipe', log] })
      closeSync(log)
      await Promise.race([
        once(coordinator.stdout as NodeJS.ReadableStream, 'data'),
        once(coordinator, 'exit').then(async () => {
          throw new Error(`the coordinator ended: ${await fleet.log()}`)
        }),
      ])
    },
    async stopCoordinator(signal) {
      if (!coordinator || coordinator.exitCode !== null || coordinator.signalCode !== null) return
      const exited = once(coordinator, 'exit')
      coordinator.kill(signal)
      await exited
    },
    log: () => readFile(logFile, 'utf8'),
    async remove() {
      for (const agent of agents) await agent.close()
      await fleet.stopCoordinator('SIGTERM')
      await vhost.remove()
      await rm(directory, { recursive: true })
    },
  }

  try {
    const broker = { url: (await way(new URL(vhost.url))).href }
    const store = { path: path.join(directory, 'store.sqlite') }
    await writeFile(config, JSON.stringify({ broker, store, heartbeat: { lostAfter: 60 } }), { mode: 0o600 })
    await fleet.startCoordinator()
    for (const address of [
      { kind: 'mount', name: 'main' },
      { kind: 'target', name: 'db-7' },
    ] as const) {
      agents.push(await startScriptedAgent({ url: vhost.url, address, directory, heartbeatMs: 500 }))
    }
    await untilRegistered(fleet)
    return fleet
  } catch (error) {
    await fleet.remove()
    throw error
  }
}

async function untilRegistered({ url }: ScriptedFleet): Promise<void> {
  const bus = await connectBus({ url, appId: 'test', role: 'client', logger: pino({ level: 'silent' }) })
  try {
    await poll(
      async () => {
        const reply = await bus.request('agent.list', {})
        return reply.accepted && reply.agents.filter(({ online }) => online).length === 2 ? true : undefined
      },
      { deadlineMs: 30_000, failure: () => 'the agents are not online' },
    )
  } finally {
    await bus.close()
  }
}
