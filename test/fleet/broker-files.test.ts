/** What a RabbitMQ is given for a fleet, as far as it depends on what is there already. */
import { expect } from 'chai'
import { definitionsAgree, enabledPlugins } from '../../coordinator/fleet/init/broker-files.ts'

describe('the plugins of a fleet’s broker', () => {
  it('are added to those that are enabled', () => {
    expect(enabledPlugins('[rabbitmq_shovel,\n rabbitmq_management].\n')).to.equal(
      '[rabbitmq_shovel,rabbitmq_management,rabbitmq_auth_mechanism_ssl].\n',
    )
    expect(enabledPlugins(undefined)).to.equal('[rabbitmq_auth_mechanism_ssl,rabbitmq_management].\n')
    expect(enabledPlugins('[].')).to.equal('[rabbitmq_auth_mechanism_ssl,rabbitmq_management].\n')
  })

  it('leave a list that has them as it is', () => {
    const text = '[rabbitmq_management, rabbitmq_auth_mechanism_ssl].'
    expect(enabledPlugins(text)).to.equal(text)
  })

  it('are not added to what is no list', () => {
    expect(enabledPlugins('{"rabbitmq_management"}')).to.equal(undefined)
  })
})

describe('definitions of a broker', () => {
  const hashed = (hash: string, user = 'howdah-management') =>
    JSON.stringify({ users: [{ name: user, password_hash: hash }] }, undefined, 2)

  it('are the same when only the salt of a hash differs', () => {
    expect(definitionsAgree(hashed('abc='), hashed('xyz='))).to.equal(true)
    expect(definitionsAgree(hashed('abc='), hashed('abc=', 'another'))).to.equal(false)
    // A user without a password is another than one with.
    expect(definitionsAgree(hashed(''), hashed('abc='))).to.equal(false)
    expect(definitionsAgree(undefined, hashed('abc='))).to.equal(false)
  })
})
