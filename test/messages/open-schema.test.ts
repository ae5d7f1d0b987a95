import { expect } from 'chai'
import { z } from 'zod'
import { AGENT_COMMANDS, COMMANDS, EVENTS } from '../../messages/definitions.ts'
import { isRetryable } from '../../messages/errors.ts'
import { decides, openInstruction, openReport } from '../../messages/open-schema.ts'

const input = {
  repository: 'main',
  instance: 'shop',
  backup: 'latest',
  recoverTo: { type: 'latest' },
  target: 'db-7',
  options: {},
}
const step = { session: 'shop-1', step: 'mount', sequence: 3, input }
const error = { code: 'of_a_newer_release', message: 'the moon is full', retryable: true }

describe('an open schema', () => {
  it('ignores keys that it does not know, at any depth', () => {
    const schema = z.strictObject({ one: z.strictObject({ two: z.int() }).optional() })
    expect(schema.safeParse({ one: { two: 1, more: 1 } }).success).to.equal(false)
    expect(openReport(schema).parse({ one: { two: 1, more: 1 }, more: 1 })).to.deep.equal({ one: { two: 1 } })
  })

  it('keeps bounds and types', () => {
    const schema = openReport(
      z.strictObject({ list: z.array(z.int().max(9)).max(2), on: z.enum(['a', 'b']) }),
    )
    for (const wrong of [
      { list: [1, 2, 3] },
      { list: [10] },
      { on: 7 },
      { on: '' },
      { on: 'x'.repeat(101) },
    ]) {
      expect(schema.safeParse({ list: [], on: 'a', ...wrong }).success, JSON.stringify(wrong)).to.equal(false)
    }
  })

  it('takes a value of an enum that it does not know, except where it decides what an agent does', () => {
    const schema = z.object({ kind: z.enum(['a']).optional(), action: decides(z.enum(['stop'])).optional() })
    expect(openInstruction(schema).parse({ kind: 'b' })).to.deep.equal({ kind: 'b' })
    expect(openInstruction(schema).safeParse({ action: 'explode' }).success).to.equal(false)
    expect(openReport(schema).parse({ action: 'explode' })).to.deep.equal({ action: 'explode' })
  })

  it('takes an option of a discriminated union that it does not know, and no malformed one that it knows', () => {
    const schema = openReport(
      z.discriminatedUnion('type', [z.strictObject({ type: z.literal('file'), path: z.string() })]),
    )
    expect(schema.parse({ type: 'bucket', name: 'x' })).to.deep.equal({ type: 'bucket', name: 'x' })
    expect(schema.safeParse({ type: 'file' }).success).to.equal(false)
  })
})

describe('the contract between releases', () => {
  it('stays strict for commands of clients', () => {
    const { body } = COMMANDS['instance.publish']
    const publish = { repository: 'main', instance: 'shop', target: 'db-7' }
    expect(body.safeParse(publish).success).to.equal(true)
    for (const more of [{ cpuLimit: 2 }, { recoverTo: { type: 'moon' } }, { settings: 7 }]) {
      expect(body.safeParse({ ...publish, ...more }).success, JSON.stringify(more)).to.equal(false)
    }
  })

  it('lets an agent run a step whose command has more than it knows', () => {
    const more = {
      ...input,
      options: { cpuLimit: 2 },
      recoverTo: { type: 'latest', within: 'P1D' },
      extra: [],
    }
    expect(AGENT_COMMANDS['step.run'].body.parse({ ...step, input: more, extra: 1 })).to.deep.equal(step)
    expect(AGENT_COMMANDS['step.run'].body.safeParse({ ...step, step: 'defragment' }).success).to.equal(true)
  })

  it('lets no agent guess at a recovery target or a destination that it does not know', () => {
    const { body } = AGENT_COMMANDS['step.run']
    const wrong = [
      { recoverTo: { type: 'moon', value: 'full' } },
      { options: { afterRecovery: 'explode' } },
      { export: { id: 'e1', request: { destination: { type: 'tape', path: '/dev/st0' } } } },
    ]
    for (const one of wrong) {
      expect(body.safeParse({ ...step, input: { ...input, ...one } }).success, JSON.stringify(one)).to.equal(
        false,
      )
    }
  })

  it('takes an error code, a step and a repository format of a newer agent', () => {
    const about = { session: 'shop-1', step: 'defragment', direction: 'run', sequence: 3 }
    const failed = EVENTS['session.step-failed'].body.parse({ ...about, error })
    expect(failed).to.deep.equal({ ...about, error })
    expect(isRetryable(failed.error)).to.equal(true)
    const { retryable: _, ...unsaid } = error
    const old = EVENTS['session.step-failed'].body.parse({ ...about, error: unsaid })
    expect(isRetryable(old.error)).to.equal(false)
    const agent = { kind: 'mount', name: 'b', online: true, lastSeen: '2026-11-30T10:00:00Z' }
    const online = { ...agent, version: '9', host: 'h', repositories: [{ name: 'new', format: 'walg' }] }
    expect(EVENTS['agent.online'].body.safeParse(online).success).to.equal(true)
  })

  it('takes refusals and lists of a newer coordinator', () => {
    expect(COMMANDS['session.show'].reply.parse({ accepted: false, error, more: 1 })).to.deep.equal({
      accepted: false,
      error,
    })
    const repository = { repository: 'main', format: 'walg', mountAgent: 'b', instances: [] }
    const list = { accepted: true, repositories: [repository] }
    expect(COMMANDS['inventory.list'].reply.parse(list)).to.deep.equal(list)
  })
})
