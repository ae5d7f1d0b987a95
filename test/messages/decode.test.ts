import type { ConsumeMessage } from 'amqplib'
import { expect } from 'chai'
import { MAX_COMMAND_BYTES } from '../../messages/definitions.ts'
import {
  type Decoded,
  decodeDelivery,
  EXPECT_COMMANDS,
  EXPECT_REPORTS,
  type Expected,
  expectAgentCommands,
} from '../../messages/envelope.ts'
import { refusedStep } from '../../messages/refused-step.ts'

const agent = { kind: 'target', name: 'db-7' } as const
const input = {
  repository: 'main',
  instance: 'shop',
  backup: 'latest',
  recoverTo: { type: 'latest' },
  target: 'db-7',
  options: {},
}
const online = { ...agent, online: true, lastSeen: '2026-11-30T10:00:00Z', version: '0.1.0', host: 'db-7' }

function message(type: string, routingKey: string, body: unknown, version: unknown = 2): ConsumeMessage {
  return {
    fields: { routingKey, redelivered: false },
    properties: { type, messageId: 'm1', headers: { 'howdah-version': version } },
    content: Buffer.from(JSON.stringify(body)),
  } as unknown as ConsumeMessage
}

function decode(expected: Expected, ...parts: Parameters<typeof message>): Decoded {
  return decodeDelivery(message(...parts), expected)
}

describe('a message between releases', () => {
  it('is refused when it needs another version of the contract', () => {
    for (const version of [1, 3, undefined]) {
      const { refused } = decode(EXPECT_COMMANDS, 'agent.list', 'agent.list', {}, version ?? null)
      expect(refused?.message).to.equal('the header howdah-version must be 2')
    }
    expect(decode(EXPECT_COMMANDS, 'agent.list', 'agent.list', {}, '2').delivery?.type).to.equal('agent.list')
  })

  it('is taken in any version when it says who an agent is', () => {
    for (const version of [1, 9]) {
      const { delivery } = decode(EXPECT_REPORTS, 'agent.online', 'agent.target.db-7.online', online, version)
      expect(delivery?.body).to.include({ name: 'db-7', version: '0.1.0' })
    }
  })

  it('is ignored when it reports what only a newer release knows', () => {
    const body = { session: 'shop-1', temperature: 7 }
    expect(
      decode(EXPECT_REPORTS, 'session.temperature', 'agent.target.db-7.temperature', body),
    ).to.deep.equal({
      ignored: 'session.temperature',
    })
  })

  it('is refused when it asks for what only a newer release knows, and names the step that was asked for', () => {
    const body = {
      session: 'shop-1',
      step: 'mount',
      sequence: 3,
      input: { ...input, recoverTo: { type: 'moon' } },
    }
    const sent = message('step.run', 'target.db-7', body)
    expect(decodeDelivery(sent, expectAgentCommands(agent)).refused).to.include({
      field: 'input.recoverTo.type',
    })
    expect(refusedStep(sent)).to.deep.equal({
      session: 'shop-1',
      step: 'mount',
      sequence: 3,
      direction: 'run',
    })
  })

  it('names no step when it is none, or says too little', () => {
    const step = { session: 'shop-1', step: 'mount', sequence: 3 }
    expect(refusedStep(message('repository.list', 'mount.b', step))).to.equal(undefined)
    expect(refusedStep(message('step.undo', 'target.db-7', { ...step, session: '../x' }))).to.equal(undefined)
    expect(refusedStep(message('step.undo', 'target.db-7', 7))).to.equal(undefined)
  })

  it('leaves room for what a step carries beside the request of a client', () => {
    const body = { repository: 'main', instance: 'shop', target: 'db-7', hba: '' }
    const large = { ...body, settings: { work_mem: 'x'.repeat(MAX_COMMAND_BYTES) } }
    expect(decode(EXPECT_COMMANDS, 'instance.publish', 'instance.publish', large).refused).to.include({
      code: 'message_too_large',
    })
  })
})
