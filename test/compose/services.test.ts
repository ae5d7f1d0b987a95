/**
 * The services of docker-compose.yml, without Docker: roots made by the steps of the Dockerfile, and each service's process by
 * its entrypoint, command, environment, user, capabilities and mounts. RabbitMQ and PostgreSQL are Debian's.
 */
import { expect } from 'chai'
import { commandsInside, milliseconds, STORE_PASSWORD } from './compose-file.ts'
import { type Project, startProject } from './project.ts'

const ROLES = ['coordinator', 'mount-agent', 'target-agent'] as const
/** Rows of the table in the sample repository. */
const ORDERS = '1000'

describe('the services of docker-compose.yml', function () {
  this.timeout(60_000)
  let project: Project
  /** The line that publish prints. */
  let psql: string[] = []

  before(async function () {
    // The layers of the images are there after bin/prepare.
    this.timeout(600_000)
    project = await startProject()
  })

  after(() => project?.remove())

  it('are ready by their own checks, with no more rights than the file gives', async () => {
    for (const name of ROLES) {
      const status = await project.container(name).status()
      const field = (key: string) => new RegExp(`^${key}:\\s*(\\w+)`, 'm').exec(status)?.[1]
      const { cap_add = [], cap_drop = [] } = project.services[name] ?? {}
      const kept = bits(BigInt(`0x${field('CapBnd')}`))
      expect(kept, name).to.equal(cap_drop.includes('ALL') ? cap_add.length : 14 + cap_add.length)
      expect(field('CapEff'), name).to.equal(field('CapBnd'))
    }
  })

  it('write to no root that is read-only', async () => {
    for (const [name, { read_only, restart }] of Object.entries(project.services)) {
      if (read_only !== true || restart === 'no') continue
      const answer = await project.container(name).exec(['sh', '-c', 'touch /opt/howdah/new 2>&1 || true'])
      expect(answer, name).to.match(/Read-only file system/)
    }
  })

  it('are users of RabbitMQ by their certificates, which takes nothing but TLS', async () => {
    const broker = project.container('rabbitmq')
    const columns = ['user', 'ssl', 'auth_mechanism']
    const listed = await broker.exec(['rabbitmqctl', '--quiet', 'list_connections', ...columns])
    const connections = new Set(listed.trim().split('\n').slice(1))
    const users = ['howdah-coordinator', 'howdah-mount-backup-1', 'howdah-target-db-7']
    expect([...connections].sort()).to.deep.equal(users.map((user) => `${user}\ttrue\tEXTERNAL`))
    const listeners = await broker.exec(['rabbitmq-diagnostics', '--quiet', 'listeners'])
    expect(listeners)
      .to.match(/port: 5671,/)
      .and.not.match(/port: 5672,/)
  })

  it('publish the sample by the commands that the file names, and the instance answers', async () => {
    const [backups, publish] = commandsInside()
    if (backups === undefined || publish === undefined) throw new Error('the file names no commands')
    const listed = await exec(backups)
    expect(listed, listed).to.match(/sample\s.*shop/s)
    const published = await exec(publish)
    psql = /connect\s+(psql .*)/.exec(published)?.[1]?.trim().split(' ') ?? []
    expect(psql, published).to.not.be.empty
    expect(await query('SELECT count(*) FROM orders')).to.equal(ORDERS)
    expect(await query("INSERT INTO orders VALUES (1001, now()) RETURNING 'written'")).to.equal('written')
  })

  it('that end by themselves change nothing when they run again', async () => {
    for (const name of ['certificates', 'sample-repository'])
      expect(await project.runAgain(name), name).to.equal(0)
    expect(await query('SELECT count(*) FROM orders')).to.equal('1001')
  })

  it('end by SIGTERM within their time, and have printed no password', async () => {
    for (const name of [...ROLES].reverse())
      expect(await project.container(name).stop(grace(name)), project.container(name).output()).to.equal(0)
    for (const name of Object.keys(project.services))
      expect(project.container(name).output(), name).to.not.include(STORE_PASSWORD)
  })

  const grace = (name: string) => milliseconds(project.services[name]?.stop_grace_period)
  const exec = ({ service, command }: { service: string; command: readonly string[] }) =>
    project.container(service).exec(command)

  async function query(sql: string): Promise<string> {
    if (psql.length === 0) throw new Error('nothing is published')
    const answer = await project.container('target-agent').exec([...psql, '-Atqc', sql])
    return answer.trim()
  }
})

function bits(number: bigint): number {
  return number.toString(2).replaceAll('0', '').length
}
