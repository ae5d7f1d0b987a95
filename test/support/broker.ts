/**
 * Owns the private RabbitMQ of a test process, started when the first test needs it; each test file has a virtual host
 * of its own. It is stopped after the last test, except that of a lane, which serves the lane's next files and ends
 * together with the lane.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import type { PrivateBroker } from '../../coordinator/cli/broker.ts'
import { startTestBroker } from './rabbitmq.ts'
import { runDirectory } from './run-directory.ts'

export interface TestVhost {
  readonly url: string
  remove(): Promise<void>
}

interface Running {
  readonly broker: PrivateBroker
  readonly directory: string
}

let running: Promise<Running> | undefined

async function start(): Promise<Running> {
  const directory = await mkdtemp(join(runDirectory() ?? tmpdir(), 'howdah-test-broker-'))
  try {
    const broker = await startTestBroker({ directory, logger: pino({ level: 'silent' }) })
    return { broker, directory }
  } catch (error) {
    await rm(directory, { recursive: true, force: true })
    throw error
  }
}

/** The broker of this run. Starting it takes some 5 to 10 s: the hook that needs it first must have a timeout that permits it. */
export async function testBroker(): Promise<PrivateBroker> {
  running ??= start()
  return (await running).broker
}

/** An empty virtual host. */
export async function testVhost(): Promise<TestVhost> {
  const broker = await testBroker()
  const name = `test-${randomBytes(6).toString('hex')}`
  const url = await broker.createVirtualHost(name)
  return { url, remove: () => broker.deleteVirtualHost(name) }
}

/** Stops and starts the broker of this run while its clients are connected. */
export async function restartBroker(options?: { crash?: boolean }): Promise<void> {
  const broker = await testBroker()
  await broker.restart(options)
}

/** Loaded by .mocharc.json, before the check for leftovers. */
export const mochaHooks = {
  async afterAll(this: Mocha.Context) {
    this.timeout(40_000)
    if (runDirectory() === undefined) await stopTestBroker()
  },
}

/** For programs that mocha does not run: they call it at their end. Safe to repeat. */
export async function stopTestBroker(): Promise<void> {
  const started = await running?.catch(() => undefined)
  running = undefined
  await started?.broker.stop()
  if (started) await rm(started.directory, { recursive: true, force: true })
}
