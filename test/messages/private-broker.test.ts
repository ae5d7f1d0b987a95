import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { pino } from 'pino'
import type { PrivateBroker } from '../../coordinator/cli/broker.ts'
import { agentQueue } from '../../messages/topology.ts'
import { startTestBroker } from '../support/rabbitmq.ts'
import { connectRaw } from './raw-client.ts'

const OWNER = fileURLToPath(new URL('broker-owner.ts', import.meta.url))
const QUEUE = agentQueue({ kind: 'mount', name: 'm1' })

describe('the private broker', function () {
  this.timeout(180_000)
  let directory: string
  let broker: PrivateBroker | undefined

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'howdah-private-broker-'))
  })

  after(async () => {
    await broker?.stop()
    await rm(directory, { recursive: true, force: true })
  })

  /** Processes of this broker by their command line, and every epmd. */
  function processes(): string[] {
    return globSync('/proc/[0-9]*/cmdline').flatMap((file) => {
      try {
        const words = readFileSync(file, 'utf8').split('\0')
        const isOurs = words.includes(directory) && !words.includes(OWNER)
        return isOurs || /\/epmd$/.test(words[0] ?? '') ? [words.slice(0, 2).join(' ')] : []
      } catch {
        return [] // it ended meanwhile
      }
    })
  }

  it('has the same address and messages after its owner was killed', async () => {
    const before = processes()
    const owner = spawn(process.execPath, [OWNER, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [line] = (await once(owner.stdout, 'data')) as [Buffer]
    const url = line.toString().trim()
    const first = await connectRaw(url)
    await first.channel.assertQueue(QUEUE.name, { durable: true, arguments: QUEUE.arguments })
    await first.publish('', QUEUE.name, 'kept', { persistent: true })
    await first.close()
    const gone = once(owner, 'exit')
    owner.kill('SIGKILL')
    await gone

    broker = await startTestBroker({ directory, logger: pino({ level: 'silent' }) })
    expect(broker.url).to.equal(url)
    const second = await connectRaw(url)
    const message = await second.channel.get(QUEUE.name, { noAck: true })
    if (!message) throw new Error('the message is gone')
    expect(message.content.toString()).to.equal('kept')
    await second.close()

    expect((await stat(directory)).mode & 0o777).to.equal(0o700)
    expect(new URL(url).hostname).to.equal('127.0.0.1')
    await broker.stop()
    await broker.stop()
    expect(processes()).to.deep.equal(before)
  })
})
