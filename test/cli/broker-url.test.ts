/** How a client verb finds its broker. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { loadConfig } from '../../config/load.ts'
import { identify } from '../../config/process-identity.ts'
import { clientSchema } from '../../config/schema.ts'
import { type BrokerFlags, findBroker } from '../../coordinator/cli/broker-url.ts'
import { UsageError } from '../../coordinator/cli/usage-error.ts'
import { HowdahError } from '../../messages/errors.ts'

describe('the broker of a client verb', () => {
  let directory: string
  let config: string

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'howdah-broker-url-'))
    config = path.join(directory, 'client.json')
    writeFileSync(config, '{"broker": {"url": "amqp://file"}}')
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  function announce(broker: string, startTime = identify(process.pid)?.startTime) {
    const file = path.join(directory, 'up.json')
    writeFileSync(file, JSON.stringify({ broker, pid: process.pid, startTime }))
    chmodSync(file, 0o600)
  }

  function find(
    flags: BrokerFlags,
    env: NodeJS.ProcessEnv = {},
    defaultState = '/nowhere',
    defaultFiles: readonly string[] = [],
  ) {
    return findBroker({
      flags,
      env,
      load: (file, url) =>
        loadConfig(clientSchema, { file, env, args: url === undefined ? [] : ['--broker', url] }).broker,
      defaultState,
      defaultFiles,
    }).urls.join(',')
  }

  it('is the one that --broker names, before everything else', () => {
    const env = { HOWDAH_BROKER_URL: 'amqp://env', HOWDAH_CONFIG: config, HOWDAH_STATE: directory }
    expect(find({ broker: 'amqp://flag' }, env)).to.equal('amqp://flag')
  })

  it('is that of --state before the environment', () => {
    announce('amqp://up')
    expect(find({ state: directory }, { HOWDAH_BROKER_URL: 'amqp://env' })).to.equal('amqp://up')
  })

  it('is that of HOWDAH_BROKER_URL before the configuration file of HOWDAH_CONFIG', () => {
    const env = { HOWDAH_BROKER_URL: 'amqp://env', HOWDAH_CONFIG: config }
    expect(find({}, env)).to.equal('amqp://env')
    expect(find({}, { HOWDAH_CONFIG: config })).to.equal('amqp://file')
    expect(find({ config })).to.equal('amqp://file')
  })

  it('is that of the first default configuration file that exists, when nothing else names one', () => {
    const files = [path.join(directory, 'missing.json'), config, '/nowhere']
    expect(find({}, {}, '/nowhere', files)).to.equal('amqp://file')
    announce('amqp://up')
    expect(find({}, {}, directory, files)).to.equal('amqp://up')
  })

  it('is that of a running "howdah up", whose state directory is named or the default', () => {
    announce('amqp://up')
    expect(find({}, { HOWDAH_STATE: directory })).to.equal('amqp://up')
    expect(find({}, {}, directory)).to.equal('amqp://up')
  })

  it('is an error when that "howdah up" does not run any more', () => {
    announce('amqp://up', '1')
    expect(() => find({ state: directory })).to.throw(HowdahError, /is gone; start it again/)
    expect(() => find({}, {}, directory)).to.throw(UsageError, /no broker is named/)
  })

  it('is wrong usage when none is named; the message lists the ways to name one', () => {
    try {
      find({})
      expect.fail('found one')
    } catch (error) {
      expect(error).to.be.instanceOf(UsageError)
      const hints = (error as UsageError).hints.join('\n')
      for (const part of ['--broker', 'HOWDAH_BROKER_URL', '--config', '--state'])
        expect(hints).to.include(part)
    }
  })
})
