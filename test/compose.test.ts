/** docker-compose.yml, as far as that can be tried without a Docker engine. */
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { chown, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { parse } from 'yaml'
import { loadConfig } from '../config/load.ts'
import { coordinatorSchema, mountAgentSchema, targetAgentSchema } from '../config/schema.ts'
import { POSTGRES_BIN, postgresAccount } from './support/postgres-cluster.ts'

const run = promisify(execFile)
const ROOT = path.join(import.meta.dirname, '..')

interface Service {
  readonly image: string
  readonly restart?: string
  readonly command?: string[]
  readonly entrypoint?: string[]
  readonly environment: Record<string, string>
  readonly healthcheck?: { test?: string[]; disable?: boolean }
  readonly depends_on?: Record<string, { condition: string }>
  readonly cap_drop?: string[]
  readonly privileged?: boolean
  readonly volumes?: string[]
}

describe('docker-compose.yml', function () {
  this.timeout(60_000)
  let services: Record<string, Service>
  const service = (name: string): Service => services[name] as Service

  before(() => {
    // Debian's docker-compose 1.29 knows everything in the file but the name of the project.
    const input = readFileSync(path.join(ROOT, 'docker-compose.yml'), 'utf8').replace(/^name: .*$/m, '')
    const env = { ...process.env, BROKER_PASSWORD: 'secret', STORE_PASSWORD: 'secret' }
    const output = execFileSync('docker-compose', ['-f', '-', '--project-directory', ROOT, 'config'], {
      ...{ input, env, stdio: ['pipe', 'pipe', 'pipe'] },
    })
    services = (parse(output.toString()) as { services: Record<string, Service> }).services
  })

  it('names a release of each image', () => {
    for (const { image } of Object.values(services))
      expect(image).to.match(/:(local|\d+\.\d+(\.\d+)?(-[a-z]+)?)$/)
    const [, base] = /^FROM (\S+)$/m.exec(readFileSync(path.join(ROOT, 'Dockerfile'), 'utf8')) ?? []
    expect(base).to.match(/^node:24\.\d+\.\d+-bookworm$/)
  })

  it('copies what there is into the image', () => {
    const copied = [...readFileSync(path.join(ROOT, 'Dockerfile'), 'utf8').matchAll(/^COPY (.+) \S+$/gm)]
    for (const file of copied.flatMap(([, files = '']) => files.split(' ')))
      expect(existsSync(path.join(ROOT, file)), file).to.equal(true)
  })

  it('waits for what ends, and for what is ready by a check of its own', () => {
    for (const [name, { depends_on = {} }] of Object.entries(services)) {
      for (const [other, { condition }] of Object.entries(depends_on)) {
        const { restart, healthcheck } = service(other)
        if (condition === 'service_completed_successfully')
          expect(restart, `${name} → ${other}`).to.equal('no')
        else expect(healthcheck?.test, `${name} → ${other}`).to.be.an('array')
      }
    }
    for (const role of ['coordinator', 'mount-agent', 'target-agent'])
      expect(service(role).healthcheck?.test?.join(' ')).to.include(
        service(role).environment.HOWDAH_METRICS_LISTEN,
      )
  })

  it('gives a container no more than it needs', () => {
    for (const [name, { privileged, cap_drop }] of Object.entries(services)) {
      expect(privileged, name).to.equal(undefined)
      if (['certificates', 'sample-repository', 'coordinator', 'mount-agent'].includes(name))
        expect(cap_drop, name).to.deep.equal(['ALL'])
    }
  })

  it('configures each role with what the role knows', () => {
    const mounted = path.join(ROOT, 'config', 'compose-mount-agent.json')
    const env = (name: string) => service(name).environment
    const { store } = loadConfig(coordinatorSchema, { env: env('coordinator'), args: [] })
    expect(store.url).to.equal('postgres://howdah:secret@store:5432/howdah')
    const mount = loadConfig(mountAgentSchema, { file: mounted, env: env('mount-agent'), args: [] })
    const target = loadConfig(targetAgentSchema, { env: env('target-agent'), args: [] })
    expect(service('mount-agent').volumes?.join(' ')).to.include(`:${mount.repositories[0]?.path}:ro`)
    const made = service('certificates').command?.join(' ') ?? ''
    expect(made).to.include(`--mount ${mount.name}=${mount.dataPlane.advertise}`)
    expect(made).to.include(`--target ${target.name}`)
    for (const { tls } of [mount, target])
      for (const file of [tls.certificate, tls.key]) expect(made).to.include(path.basename(file))
  })

  it('makes a sample repository with a backup of pg_basebackup, once', async () => {
    const directory = await mkdtemp(path.join(tmpdir(), 'howdah-compose-'))
    try {
      const { uid, gid } = await postgresAccount()
      await chown(directory, uid, gid)
      const [script = ''] = service('sample-repository').command ?? []
      const env = { PATH: `${POSTGRES_BIN}:${process.env.PATH}`, TMPDIR: directory, REPOSITORY: directory }
      for (let time = 0; time < 2; time++)
        await run('sh', ['-euc', script.replaceAll('$$', '$')], { env, uid, gid, cwd: directory })
      for (const file of ['backup_label', 'backup_manifest', 'PG_VERSION'])
        expect(existsSync(path.join(directory, 'shop', 'first', file)), file).to.equal(true)
    } finally {
      await rm(directory, { recursive: true })
    }
  })
})
