/** Values of the configuration that are wrong are found when it is loaded, by name. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { ConfigurationError } from '../../config/configuration-error.ts'
import { environmentProblem } from '../../config/environment.ts'
import { loadConfig } from '../../config/load.ts'
import { clientSchema, coordinatorSchema, mountAgentSchema, targetAgentSchema } from '../../config/schema.ts'
import { allPages } from '../../coordinator/cli/pages.ts'

const LAUNCHER = path.resolve(import.meta.dirname, '../../bin/howdah')
const NAMED = { HOWDAH_AGENT_NAME: 'db-7' }

describe('the configuration', () => {
  const target = (env: NodeJS.ProcessEnv) =>
    loadConfig(targetAgentSchema, { env: { ...NAMED, ...env }, args: [] })
  const mount = (env: NodeJS.ProcessEnv) =>
    loadConfig(mountAgentSchema, { env: { ...NAMED, ...env }, args: [] })
  const coordinator = (env: NodeJS.ProcessEnv) => loadConfig(coordinatorSchema, { env, args: [] })

  const wrong: readonly (readonly [
    string,
    (env: NodeJS.ProcessEnv) => unknown,
    Record<string, string>,
    string,
  ])[] = [
    ['a number with letters behind it', target, { HOWDAH_LIMIT_SESSIONS: '8abc' }, 'limits.sessions'],
    ['a limit of no sessions at all', target, { HOWDAH_LIMIT_SESSIONS: '0' }, 'limits.sessions'],
    ['a fraction of a session', target, { HOWDAH_LIMIT_SESSIONS: '1.5' }, 'limits.sessions'],
    ['a negative count', coordinator, { HOWDAH_RETRY_ATTEMPTS: '-1' }, 'retry.attempts'],
    ['a count that is no number', coordinator, { HOWDAH_RESUME_ATTEMPTS: 'many' }, 'resume.attempts'],
    ['a port with letters behind it', mount, { HOWDAH_DATA_PLANE_PORT: '7420x' }, 'dataPlane.port'],
    ['a port that is too high', mount, { HOWDAH_DATA_PLANE_PORT: '65536' }, 'dataPlane.port'],
    ['a port in hexadecimal', target, { HOWDAH_POSTGRES_FIRST_PORT: '0x6000' }, 'postgres.firstPort'],
    ['seconds with a unit', target, { HOWDAH_READ_DEADLINE: '5s' }, 'readDeadline'],
    ['seconds with an exponent', target, { HOWDAH_READ_DEADLINE: '1e3' }, 'readDeadline'],
    ['yes instead of true', target, { HOWDAH_ISOLATION_NETWORK: 'no' }, 'isolation.network'],
    ['a size that is no size', target, { HOWDAH_LIMIT_CACHE_BYTES: '5 GB' }, 'limits.cacheBytes'],
    [
      'heartbeats as rare as what counts as lost',
      target,
      { HOWDAH_HEARTBEAT_INTERVAL: '30' },
      'heartbeat.interval',
    ],
    ['heartbeats of a mount agent, too', mount, { HOWDAH_HEARTBEAT_INTERVAL: '45' }, 'heartbeat.interval'],
    [
      'agents that count as lost between heartbeats',
      coordinator,
      { HOWDAH_HEARTBEAT_LOST_AFTER: '10' },
      'heartbeat.interval',
    ],
  ]
  for (const [what, load, env, key] of wrong) {
    it(`refuses ${what}, and names ${key}`, () => {
      expect(() => load(env)).to.throw(ConfigurationError, `${key}:`)
    })
  }

  it('takes such values when they are right', () => {
    expect(target({ HOWDAH_LIMIT_SESSIONS: '8', HOWDAH_ISOLATION_NETWORK: 'false' })).to.deep.include({
      limits: { sessions: 8, cacheBytes: null },
    })
    expect(target({ HOWDAH_ISOLATION_NETWORK: 'false' }).isolation.network).to.equal(false)
    expect(target({ HOWDAH_READ_DEADLINE: '2.5' }).readDeadline).to.equal(2.5)
    expect(mount({ HOWDAH_DATA_PLANE_PORT: '0' }).dataPlane.port).to.equal(0)
    const beat = { HOWDAH_HEARTBEAT_INTERVAL: '45', HOWDAH_HEARTBEAT_LOST_AFTER: '100' }
    expect(target(beat).heartbeat).to.deep.equal({ interval: 45, lostAfter: 100 })
    expect(
      target({ HOWDAH_ALLOW_SETTINGS: 'a,b', HOWDAH_ALLOW_EXPORT_DIRECTORIES: '/a:/b' }).allow,
    ).to.deep.include({ settings: ['a', 'b'], exportDirectories: ['/a', '/b'] })
  })

  it('has the nodes of a broker as a list, as text, or as the one of broker.url', () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'howdah-values-'))
    const file = path.join(directory, 'client.json')
    const urls = (broker: object): string[] => {
      writeFileSync(file, JSON.stringify({ broker }))
      return loadConfig(clientSchema, { file, env: {}, args: [] }).broker.urls
    }
    try {
      expect(urls({ url: 'amqp://a' })).to.deep.equal(['amqp://a'])
      expect(urls({ urls: ['amqp://a', 'amqp://b'] })).to.deep.equal(['amqp://a', 'amqp://b'])
      const text = 'amqp://u:p,w@a, amqp://u:p,w@b'
      const nodes = ['amqp://u:p,w@a', 'amqp://u:p,w@b']
      expect(urls({ url: text })).to.deep.equal(nodes)
      expect(coordinator({ HOWDAH_BROKER_URL: text }).broker.urls).to.deep.equal(nodes)
      expect(() => urls({ urls: [] })).to.throw(ConfigurationError, 'broker.urls:')
      expect(() => urls({ urls: ['amqp://a', 'b'] })).to.throw(ConfigurationError, 'broker.urls:')
      expect(() => urls({ url: 'amqp://a', urls: ['amqp://a'] })).to.throw(ConfigurationError, file)
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  it('refuses variables that there are not, and names the one that is meant', () => {
    for (const load of [
      target,
      mount,
      coordinator,
      (env: NodeJS.ProcessEnv) => loadConfig(clientSchema, { env, args: [] }),
    ]) {
      expect(() => load({ HOWDAH_BROKERURL: 'amqp://a', HOWDAH_LIMITS_SESSIONS: '3' }))
        .to.throw(ConfigurationError, 'HOWDAH_BROKERURL; the most similar one is HOWDAH_BROKER_URL')
        .and.to.have.property('message')
        .that.includes('HOWDAH_LIMITS_SESSIONS; the most similar one is HOWDAH_LIMIT_SESSIONS')
    }
  })

  it('takes every variable that a manual page names', async () => {
    const named = (await allPages())
      .flatMap(({ environment }) => environment.map(([term]) => term))
      .flatMap((term) => term.match(/HOWDAH_[A-Z_]+/g) ?? [])
    expect(named).to.include.members(['HOWDAH_BROKER_URL', 'HOWDAH_MANAGEMENT_URL', 'HOWDAH_STATE'])
    expect(environmentProblem(Object.fromEntries(named.map((name) => [name, 'x'])))).to.equal(undefined)
  })

  it('lets roles share one environment', () => {
    expect(() =>
      coordinator({ HOWDAH_CACHE_ROOT: '/c', HOWDAH_STATE: '/s', HOWDAH_SPOOL_DIRECTORY: '/p' }),
    ).not.to.throw()
  })
})

describe('a program with a wrong configuration', function () {
  this.timeout(20_000)

  for (const [args, env, part] of [
    [['target-agent', '--json'], { ...NAMED, HOWDAH_LIMIT_SESSIONS: '0' }, 'limits.sessions'],
    [['coordinator', '--json'], { HOWDAH_HEARTBEAT_LOST_AFTER: '5' }, 'heartbeat.interval'],
    [['mount-agent', '--json'], { ...NAMED, HOWDAH_BROKER_URI: 'x' }, 'HOWDAH_BROKER_URL'],
    [
      ['sessions', '--json'],
      { HOWDAH_BROKER_URL: 'amqp://127.0.0.1:1', HOWDAH_BROKER_CAS: '/x' },
      'HOWDAH_BROKER_CA',
    ],
    [['up', '--json', '--state', '/dev/null/x'], { HOWDAH_CACHEROOT: '/x' }, 'HOWDAH_CACHE_ROOT'],
  ] as const) {
    it(`${args[0]} exits with 2, and says so as JSON: ${part}`, () => {
      const own = Object.entries(process.env).filter(([name]) => !name.startsWith('HOWDAH_'))
      const { status, stdout, stderr } = spawnSync(LAUNCHER, args, {
        cwd: '/',
        env: { ...Object.fromEntries(own), ...env },
        encoding: 'utf8',
      })
      expect(status, stderr).to.equal(2)
      expect(JSON.parse(stdout).error).to.include({ code: 'configuration', retryable: false })
      expect(JSON.parse(stdout).error.message).to.include(part)
      expect(stderr).to.include(part)
    })
  }

  it('a role with a flag that there is not exits with 2, and says so as JSON', () => {
    const { status, stdout } = spawnSync(LAUNCHER, ['coordinator', '--json', '--brokr', 'x'], {
      encoding: 'utf8',
    })
    expect(status).to.equal(2)
    expect(JSON.parse(stdout).error).to.include({ code: 'usage', retryable: false })
  })
})
