import { expect } from 'chai'
import { parseJson } from '../../messages/json.ts'

describe('JSON from outside', () => {
  it('is read from text and from bytes', () => {
    expect(parseJson('{"a":1}')).to.deep.equal({ value: { a: 1 } })
    expect(parseJson(Buffer.from('"ä"'))).to.deep.equal({ value: 'ä' })
  })

  it('may be null, which is a value', () => {
    expect(parseJson('null')).to.deep.equal({ value: null })
  })

  it('is undefined when it is damaged', () => {
    expect([parseJson(''), parseJson('{"a":'), parseJson(Buffer.from('x'))]).to.deep.equal([
      undefined,
      undefined,
      undefined,
    ])
  })

  it('is undefined when its bytes are not UTF-8', () => {
    expect(parseJson(Buffer.from([0x22, 0xff, 0x22]))).to.equal(undefined)
  })
})
