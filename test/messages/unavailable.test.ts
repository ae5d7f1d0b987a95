import { expect } from 'chai'
import { errorBody } from '../../messages/errors.ts'
import { isUnavailable, Unavailable } from '../../messages/unavailable.ts'

describe('what is away for the moment', () => {
  it('is told from a failure of the message, also where an error wraps it', () => {
    const away = new Unavailable('the store cannot be reached', { cause: new Error('ECONNREFUSED') })
    expect(isUnavailable(away)).to.equal(true)
    expect(isUnavailable(new Error('saving failed', { cause: away }))).to.equal(true)
    expect(isUnavailable(new TypeError('a defect'))).to.equal(false)
    expect(isUnavailable('a text')).to.equal(false)
    expect(errorBody(away)).to.include({ code: 'operation_failed', message: 'the store cannot be reached' })
    expect(new Unavailable('no broker', { code: 'broker_unavailable' }).code).to.equal('broker_unavailable')
  })

  it('is looked for in circular causes without end', () => {
    const circular = new Error('a circle')
    circular.cause = circular
    expect(isUnavailable(circular)).to.equal(false)
  })
})
