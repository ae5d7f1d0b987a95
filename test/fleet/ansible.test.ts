/**
 * The role of docs/ansible, run by Ansible itself, on a host with directories of its own. The tasks that copy and install
 * the Debian package are left out: the programs of the checkout are there already.
 */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { copyFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { parse } from 'yaml'
import { useEnrollingFleet } from '../support/enrolling-fleet.ts'
import { type HostRoot, makeHostRoot } from '../support/host-root.ts'

const CHECKOUT = path.resolve(import.meta.dirname, '../..')
const ANSIBLE = path.join(CHECKOUT, 'docs/ansible')

interface Run {
  readonly status: number
  readonly output: string
  readonly changed: number
}

describe('the Ansible role', function () {
  this.timeout(120_000)
  const fleet = useEnrollingFleet()
  let host: HostRoot

  before(async () => {
    host = await makeHostRoot()
    const { version } = JSON.parse(readFileSync(path.join(CHECKOUT, 'package.json'), 'utf8'))
    const programs = `/opt/howdah/${version}`
    await host.shell(
      `mkdir -p ${programs} && mount --bind ${CHECKOUT} ${programs} && ln -s ${version} /opt/howdah/current && ln -s /opt/howdah/current/bin/howdah /usr/local/bin/howdah`,
    )
  })
  after(() => host?.remove())

  /** Runs the playbook for the host as docs/ansible/hosts.yml has it, but for what differs here. */
  async function play(variables: object = {}): Promise<Run> {
    const inventory = parse(readFileSync(path.join(ANSIBLE, 'hosts.yml'), 'utf8'))
    const { fingerprint } = await fleet.invite('--kind', 'target', '--name', 'unused')
    const { howdah_targets } = inventory.all.children
    // The directory of the tests is away there.
    const operator = fleet.environment(fleet.operator)
    for (const [name, file = ''] of Object.entries(operator))
      if (file.startsWith(fleet.tls)) {
        operator[name] = `/run/${path.basename(file)}`
        await copyFile(file, path.join(host.root, operator[name]))
      }
    const vars = {
      ...inventory.all.vars,
      howdah_deb: '',
      howdah_fingerprint: fingerprint,
      howdah_operator_environment: operator,
      ansible_connection: 'local',
      ansible_python_interpreter: '/usr/bin/python3',
      ...variables,
    }
    await writeFile(
      path.join(host.root, 'run/hosts.yml'),
      JSON.stringify({ all: { vars, children: { howdah_targets } } }),
    )
    const [program, ...args] = host.on([
      'ansible-playbook',
      '-vv',
      '-i',
      '/run/hosts.yml',
      `${ANSIBLE}/site.yml`,
    ])
    // The directory of the tests is away there.
    const env = {
      PATH: process.env.PATH,
      HOME: '/run',
      LC_ALL: 'C.UTF-8',
      ANSIBLE_LOCAL_TEMP: '/run/ansible',
    }
    const { status, output } = await promisify(execFile)(program, args, { cwd: '/', env }).then(
      ({ stdout, stderr }) => ({ status: 0, output: `${stdout}${stderr}` }),
      ({ code, stdout, stderr }) => ({ status: Number(code), output: `${stdout}${stderr}` }),
    )
    return { status, output, changed: Number(/changed=(\d+)/.exec(output)?.[1] ?? Number.NaN) }
  }

  it('fails with the reason where the fleet is another one', async () => {
    const { status, output } = await play({ howdah_fingerprint: `SHA256:${'A'.repeat(43)}` })
    expect(status, output).to.equal(2)
    expect(output).to.include('the token is of another authority')
  })

  it('makes a host an agent that is online, without a token in its output', async () => {
    const { status, output, changed } = await play()
    expect(status, output).to.equal(0)
    expect(changed, output).to.equal(1)
    expect(output).not.to.include('howdah-join-1.')
    await fleet.untilOnline('db-7')
  })

  it('changes nothing when it is run again', async () => {
    const { status, output, changed } = await play()
    expect(status, output).to.equal(0)
    expect(changed, output).to.equal(0)
    await host.shell('howdah agent stop')
  })
})
