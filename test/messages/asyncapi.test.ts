import { readFileSync } from 'node:fs'
import { Parser } from '@asyncapi/parser'
import { expect } from 'chai'
import type { ZodType } from 'zod'
import { asyncApiDocument } from '../../messages/asyncapi.ts'
import { AUDIT_ENTRIES } from '../../messages/audit.ts'
import { COMMANDS, EVENTS, SESSION_EVENT_TYPES } from '../../messages/definitions.ts'

describe('docs/asyncapi.json', function () {
  this.timeout(60_000)

  const text = readFileSync(new URL('../../docs/asyncapi.json', import.meta.url), 'utf8')

  it('is current; otherwise: npm run asyncapi', () => {
    expect(JSON.parse(text)).to.deep.equal(JSON.parse(JSON.stringify(asyncApiDocument())))
  })

  it('is a valid AsyncAPI 3 document', async () => {
    const { document, diagnostics } = await new Parser().parse(text)
    const errors = diagnostics.filter(({ severity }) => severity === 0)
    expect(errors.map(({ message, path }) => `${path.join('.')}: ${message}`)).to.deep.equal([])
    expect(document?.version()).to.equal('3.0.0')
  })

  it('marks what clients may rely on, and has an example of each such message that its schema takes', () => {
    const messages = (JSON.parse(text) as Document).components.messages
    const isPublic = (name: string): boolean => messages[name]?.['x-stability'] === 'public'
    const expected = [
      ...Object.keys(COMMANDS).flatMap((type) => [type, `${type}.reply`]),
      ...SESSION_EVENT_TYPES,
      ...Object.keys(AUDIT_ENTRIES),
    ]
    expect(Object.keys(messages).filter(isPublic)).to.have.members(expected)
    for (const [type, { body, reply }] of Object.entries(COMMANDS)) {
      for (const { payload } of messages[type]?.examples ?? []) expectSame(body, payload)
      for (const { payload } of messages[`${type}.reply`]?.examples ?? []) expectSame(reply, payload)
    }
    for (const [type, { body }] of Object.entries({ ...EVENTS, ...AUDIT_ENTRIES })) {
      for (const { payload } of messages[type]?.examples ?? []) expectSame(body, payload)
    }
    for (const name of expected) expect(messages[name]?.examples, name).not.to.equal(undefined)
  })

  it('tells a command to an agent from an event of the same type', () => {
    const messages = (JSON.parse(text) as Document).components.messages
    expect(messages['session.changes']).to.have.property('x-stability', 'public')
    expect(messages['to-agent.session.changes']).to.have.property('x-stability', 'internal')
  })
})

interface Document {
  readonly components: {
    readonly messages: Readonly<
      Record<string, { readonly 'x-stability': string; readonly examples?: readonly { payload: unknown }[] }>
    >
  }
}

/** Valid, and nothing of it is dropped as unknown. */
function expectSame(schema: ZodType, payload: unknown): void {
  expect(schema.parse(payload)).to.deep.equal(payload)
}
