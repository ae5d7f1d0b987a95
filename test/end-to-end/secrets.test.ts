/**
 * No secret leaves the processes of Howdah: what they log, print and hand to other programs is watched. The whole suite is,
 * by test/main.ts; here are an encrypted repository and everything that is refused because a secret is wrong.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { expect } from 'chai'
import { parse as parseYaml } from 'yaml'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { cleanEnvironment, LAUNCHER, ROLES } from '../support/fleet-roles.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { refuseAsPostgres, WRONG_PASSWORD } from '../support/refusing-postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { makeFindings, PLANTED, readFindings, watchedEnvironment } from '../support/secrets.ts'

/** As test/main.ts sets it. */
const FINDINGS = 'TEST_SECRETS'

describe('a secret', function () {
  this.timeout(120_000)
  let directory: string
  let findings: string
  let ofTheRun: string | undefined

  beforeEach(async () => {
    directory = await scratchDirectory('howdah-secrets-')
    findings = path.join(directory, 'findings')
    makeFindings(findings)
    ofTheRun = process.env[FINDINGS]
    process.env[FINDINGS] = findings
  })

  afterEach(async () => {
    if (ofTheRun === undefined) delete process.env[FINDINGS]
    else process.env[FINDINGS] = ofTheRun
    await rm(directory, { recursive: true })
  })

  async function run(
    command: readonly string[],
    env: NodeJS.ProcessEnv,
  ): Promise<{ status: number; output: string }> {
    const [program = '', ...args] = command
    const child = spawn(program, args, { cwd: '/', env, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        output += chunk
      })
    const [status] = (await once(child, 'close')) as [number | null]
    return { status: status ?? -1, output }
  }

  describe('that a program gives away', () => {
    const leaks: Readonly<Record<string, readonly [code: string, where: string]>> = {
      'in its log on stderr': [`fs.writeSync(2, 'secret: ${PLANTED}')`, 'its log'],
      'in a log file': [
        `const fd = fs.openSync(process.argv[2] + '/mount.log', 'a'); fs.writeSync(fd, 'secret: ${PLANTED}')`,
        'its log',
      ],
      'on stdout': [`process.stdout.write('-----BEGIN EC PRIVATE KEY-----')`, 'stdout'],
      'as a ticket': [`console.error('howdah1.${'a'.repeat(30)}.${'b'.repeat(43)}')`, 'stderr'],
      'in a URL': [`console.error('cannot reach amqp://guest:guest@127.0.0.1:5672')`, 'stderr'],
      'in the arguments of a program': [`cp.spawn('true', ['${PLANTED}'])`, 'an argument of true'],
      'in the arguments of a program that it waits for': [
        `cp.execFileSync('true', ['${PLANTED}'])`,
        'an argument of true',
      ],
      'in the environment of a program': [
        `cp.spawn('true', [], { env: { PGPASSWORD: '${PLANTED}' } })`,
        'the environment of true',
      ],
      'in a thread': [
        `fs.writeFileSync(process.argv[2] + '/agents/thread.ts', "import * as fs from 'node:fs'; fs.writeSync(2, '${PLANTED}')");
         new Worker(process.argv[2] + '/agents/thread.ts')`,
        'its log',
      ],
    }
    for (const [how, [code, where]] of Object.entries(leaks)) {
      it(`${how} is found`, async () => {
        const program = path.join(directory, 'agents/main.ts')
        mkdirSync(path.dirname(program))
        const imports = `import * as fs from 'node:fs'\nimport * as cp from 'node:child_process'\nimport { Worker } from 'node:worker_threads'\n`
        writeFileSync(program, `${imports}${code}\n`)
        await run([process.execPath, program, directory], watchedEnvironment(process.env, findings))
        expect(readFindings(findings).map((found) => found.where)).to.deep.equal([where])
      })
    }

    it('is not looked for in files that have to contain it, nor in what is no secret', async () => {
      const program = path.join(directory, 'agents/main.ts')
      mkdirSync(path.dirname(program))
      writeFileSync(
        program,
        `import * as fs from 'node:fs'
         fs.writeSync(fs.openSync(process.argv[2] + '/pgpass', 'w'), '${PLANTED}')
         console.error('give amqp://user:password@host:5672/vhost, or amqp://broker:5672')`,
      )
      await run([process.execPath, program, directory], watchedEnvironment(process.env, findings))
      expect(readFindings(findings)).to.deep.equal([])
    })
  })

  describe('of a fleet', () => {
    let production: Production
    let fleet: Fleet
    let failed = false

    before(async () => {
      production = await makeProduction({ compress: 'gz', passphrase: PLANTED })
      await production.backup('full')
    })

    afterEach(async function () {
      failed ||= this.currentTest?.state === 'failed'
      await fleet?.remove(failed)
    })

    after(() => production?.remove())

    it('is in no log, output or command line while an encrypted backup is published, and when its passphrase is wrong', async () => {
      const passphrase = path.join(directory, 'passphrase')
      const wrong = path.join(directory, 'wrong')
      writeFileSync(passphrase, PLANTED, { mode: 0o600 })
      writeFileSync(wrong, `${PLANTED} wrong`, { mode: 0o600 })
      const common = { format: 'pgbackrest', path: production.path } as const
      fleet = await startFleet({
        repositories: [
          { name: 'main', ...common, passphraseFile: passphrase },
          { name: 'wrong', ...common, passphraseFile: wrong },
        ],
      })
      expect(new URL(fleet.brokerUrl).password, 'what would be found in a log').to.not.equal('')
      const session = await fleet.publish('--repository', 'main', '--instance', production.stanza)
      const refused = await fleet.howdah(
        ...['publish', '--repository', 'wrong', '--instance', production.stanza, '--target', 'db-7'],
      )
      expect(refused.status).to.equal(1)
      await fleet.restartBroker({ crash: true })
      await fleet.untilState(session.id, 'published')
      await fleet.howdahJson('unpublish', session.id, '--yes')
      expect(readFindings(findings)).to.deep.equal([])
      expectOrderlyLogs(fleet.directory, session.id)
    })
  })

  describe('that is refused', () => {
    const withUrl = (url: string) => ({ broker: { url } })
    const refused: Readonly<Record<string, { readonly role: string; readonly config: object }>> = {
      'the URL of a broker, which is none': {
        role: 'coordinator',
        config: withUrl(`http://guest:${PLANTED}@h/`),
      },
      'the URL of a store, which is none': {
        role: 'coordinator',
        config: { store: { url: `mysql://howdah:${PLANTED}@h/howdah` } },
      },
      'a password in the place of a file': {
        role: 'target-agent',
        config: { name: 'db-7', credentials: { live: { password: PLANTED } } },
      },
      'a password that is no path': {
        role: 'target-agent',
        config: { name: 'db-7', credentials: { live: { passwordFile: PLANTED } } },
      },
      'a passphrase in the place of a file': {
        role: 'mount-agent',
        config: {
          name: 'backup-1',
          repositories: [{ name: 'a', format: 'barman', path: '/srv', passphraseFile: PLANTED }],
        },
      },
    }
    for (const [what, { role, config }] of Object.entries(refused)) {
      it(`is in neither the log nor the error: ${what}`, async () => {
        const file = path.join(directory, 'role.json')
        writeFileSync(file, JSON.stringify(config), { mode: 0o600 })
        const { status, output } = await run([LAUNCHER, role, '--config', file, '--json'], {
          ...cleanEnvironment(),
        })
        expect(status, output).to.not.equal(0)
        expect(output).to.not.include(PLANTED)
        expect(readFindings(findings)).to.deep.equal([])
      })
    }

    it('is in neither the log nor the error: the password of the store, which refuses it', async () => {
      const server = await refuseAsPostgres(() => WRONG_PASSWORD)
      const file = path.join(directory, 'role.json')
      const store = { url: `postgres://howdah:${PLANTED}@127.0.0.1:${server.port}/howdah` }
      writeFileSync(file, JSON.stringify({ ...withUrl('amqp://127.0.0.1:1/'), store }), { mode: 0o600 })
      try {
        const { status, output } = await run([LAUNCHER, 'coordinator', '--config', file, '--json'], {
          ...cleanEnvironment(),
        })
        expect(status, output).to.equal(2)
        expect(output).to.include(WRONG_PASSWORD.message).and.not.include(PLANTED)
        expect(readFindings(findings)).to.deep.equal([])
      } finally {
        server.close()
      }
    })

    describe('by a broker', () => {
      let vhost: TestVhost

      before(async function () {
        this.timeout(60_000)
        vhost = await testVhost()
      })

      after(() => vhost?.remove())

      function wrongUrl(): string {
        const url = new URL(vhost.url)
        url.username = 'guest'
        url.password = PLANTED
        return url.href
      }

      it('is neither in the log of a role nor in its error', async () => {
        const file = path.join(directory, 'role.json')
        const store = { path: path.join(directory, 'store.sqlite') }
        writeFileSync(file, JSON.stringify({ broker: { url: wrongUrl() }, store }), { mode: 0o600 })
        const { status, output } = await run(
          [LAUNCHER, 'coordinator', '--config', file, '--json'],
          cleanEnvironment(),
        )
        expect(status, output).to.equal(2)
        expect(output).to.not.include(PLANTED)
        expect(readFindings(findings)).to.deep.equal([])
      })

      it('is in no message of the command line', async () => {
        const { status, output } = await run(
          [LAUNCHER, 'sessions', '--broker', wrongUrl()],
          cleanEnvironment(),
        )
        expect(status, output).to.not.equal(0)
        expect(output).to.not.include(PLANTED)
        expect(readFindings(findings)).to.deep.equal([])
      })
    })
  })
})

/** Each line of each role is one JSON document without a key twice, and says what happened to which session by which message. */
function expectOrderlyLogs(directory: string, session: string): void {
  const lines = ROLES.flatMap((role) =>
    readFileSync(path.join(directory, `${role}.log`), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line): Record<string, unknown> => {
        const document = parseYaml(line, { uniqueKeys: true }) as Record<string, unknown>
        expect(document, line).to.include.keys('level', 'time', 'role', 'pid', 'msg')
        return document
      }),
  )
  const of = (msg: string, more: object = {}) =>
    lines.filter(
      (line) => line.session === session && line.msg === msg && isDeepStrictEqual(line, { ...line, ...more }),
    )
  const mount = { step: 'mount', direction: 'run' }
  for (const msg of ['sent a step', 'step begins', 'step done']) expect(of(msg, mount), msg).to.have.length(1)
  expect(of('sent a step', mount)[0]).to.include({ agent: 'target.db-7', messageId: `${session}.3` })
  expect(of('step begins', mount)[0]).to.include({ agent: 'target.db-7', sequence: 3 })
  expect(of('carried out a command', { type: 'instance.publish' })[0]).to.include.keys('messageId', 'user')
  expect(of('session state', { state: 'published' })).to.have.length.greaterThan(0)
}
