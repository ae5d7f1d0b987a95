import { readFileSync } from 'node:fs'
import { Parser } from '@asyncapi/parser'
import { expect } from 'chai'
import { asyncApiDocument } from '../../messages/asyncapi.ts'

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
})
