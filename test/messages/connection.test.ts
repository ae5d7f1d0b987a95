import { expect } from 'chai'
import { withinDeadline } from '../../messages/connection.ts'
import { HowdahError } from '../../messages/errors.ts'
import { failure } from './failure.ts'

describe('the connection to RabbitMQ', () => {
  it('is waited for until a deadline, whose error has the last failure', async () => {
    await withinDeadline(5_000, Promise.resolve(), () => undefined)
    const cause = new Error('connection refused')
    const error = await failure(withinDeadline(1, new Promise(() => {}), () => cause))
    expect(error).to.include({ code: 'broker_unavailable', cause })
    expect(error.message).to.equal('no connection to RabbitMQ within 0.001 s: connection refused')
    const refused = new HowdahError('configuration', 'wrong password')
    expect(await failure(withinDeadline(5_000, Promise.reject(refused), () => undefined))).to.equal(refused)
  })
})
