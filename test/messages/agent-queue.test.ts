import { expect } from 'chai'
import { type AgentQueueOptions, createAgentQueue } from '../../messages/agent-queue.ts'
import { HowdahError } from '../../messages/errors.ts'
import { isUnavailable } from '../../messages/unavailable.ts'
import { failure } from './failure.ts'
import { replyError, ScriptedChannel, ScriptedConnection } from './scripted-amqp.ts'

const AGENT = { kind: 'target', name: 'db-7', instance: 'mine' } as const
const NOT_FOUND = 404
const RESOURCE_LOCKED = 405
type Enroll = AgentQueueOptions['enroll']

describe('an agent without a queue', () => {
  /** What its log says, by the coordinator's answer. */
  async function reason(enroll: Enroll): Promise<string> {
    const connection = new ScriptedConnection()
    connection.onChannel = (channel) => {
      channel.checkQueue = async () => {
        throw replyError(NOT_FOUND)
      }
    }
    const prepare = createAgentQueue({ connection: connection.asConnection, agent: AGENT, enroll })
    const error = await failure(prepare(new ScriptedChannel().asChannel))
    expect(isUnavailable(error)).to.equal(true)
    return error.message
  }

  it('waits, and says what the coordinator answers', async () => {
    expect(await reason(async () => ({ accepted: true }))).to.match(
      /^there is no queue howdah\.target\.db-7 yet; the coordinator declares it now/,
    )
    const error = { code: 'invalid_message', message: 'it is too new', retryable: false } as const
    expect(await reason(async () => ({ accepted: false, error }))).to.include(
      'does not declare it: it is too new',
    )
    const silence = new HowdahError('timeout', 'nobody answers')
    expect(await reason(async () => Promise.reject(silence))).to.include('could not be asked')
  })
})

describe('the lock of an agent’s name, while RabbitMQ refuses it', () => {
  let now: number
  let enroll: Enroll

  beforeEach(() => {
    now = 1_000_000
    enroll = async () => ({ accepted: true })
  })

  function lock(): () => Promise<void> {
    const prepare = createAgentQueue({
      connection: new ScriptedConnection().asConnection,
      ...{ agent: AGENT, enroll: () => enroll(), now: () => now },
    })
    return () => {
      const channel = new ScriptedChannel()
      channel.refusals.push(replyError(RESOURCE_LOCKED))
      return prepare(channel.asChannel)
    }
  }

  const holder =
    (instance: string, silentMs: number): Enroll =>
    async () => ({
      accepted: true,
      holder: { host: 'db-7.example', instance, silentMs },
    })

  it('is waited for when it may be that of an earlier connection of the same process', async () => {
    const attempt = lock()
    enroll = holder('mine', 0)
    for (const passed of [0, 30_000]) {
      now += passed
      expect(isUnavailable(await failure(attempt()))).to.equal(true)
    }
  })

  it('is waited for when the process that had the name before is silent since', async () => {
    const attempt = lock()
    for (const silentMs of [500, 20_500]) {
      enroll = holder('earlier', silentMs)
      const error = await failure(attempt())
      expect(isUnavailable(error)).to.equal(true)
      expect(error.message).to.include('on db-7.example')
      now += 20_000
    }
  })

  it('belongs to another process when that still sends heartbeats', async () => {
    const attempt = lock()
    enroll = holder('other', 500)
    expect(isUnavailable(await failure(attempt()))).to.equal(true)
    now += 10_000
    const error = await failure(attempt())
    expect(error.code).to.equal('configuration')
    expect(error.message).to.include('another process on db-7.example')
  })

  it('is given up after a minute, when no coordinator says who has it', async () => {
    const attempt = lock()
    enroll = async () => {
      throw new HowdahError('timeout', 'nobody answers')
    }
    expect(isUnavailable(await failure(attempt()))).to.equal(true)
    now += 61_000
    const error = await failure(attempt())
    expect(error.code).to.equal('configuration')
    expect(error.message).to.match(/^the name "db-7" of this target agent belongs to another process, which/)
  })
})
