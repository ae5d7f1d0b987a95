/**
 * The services of agents under systemd, by its own systemctl, in a bare Debian 13. systemd does not run there: with
 * SYSTEMD_OFFLINE=1 systemctl does what concerns files, such as enabling a unit, and leaves the rest out.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect } from 'chai'
import { BUNDLES, testBundle } from '../support/bundle.ts'
import { type DebianRoot, inventoryDifference, makeDebianRoot } from '../support/debian-root.ts'

const CHECKOUT = path.resolve(import.meta.dirname, '../..')
const UNPACK = readFileSync(path.join(CHECKOUT, 'bin/unpack-bundle'), 'utf8')
const VERSION = '9.0.0'
const UNIT = 'howdah-target-agent.service'
const UNIT_FILE = `/usr/local/lib/systemd/system/${UNIT}`
const SETUP = 'agent setup --kind target --name db-7 --broker amqp://127.0.0.1:1 --json'

interface Report {
  readonly changed: string[]
  readonly kept: string[]
}

describe('an agent under systemd', function () {
  this.timeout(180_000)
  let root: DebianRoot
  let atFirst: string[]

  const howdah = async (args: string): Promise<Report> =>
    JSON.parse(await root.shell(`SYSTEMD_OFFLINE=1 /opt/howdah/${VERSION}/bin/howdah ${args}`)) as Report

  before(async () => {
    const { file, sha256 } = await testBundle(VERSION)
    root = await makeDebianRoot(13)
    await root.shell('mkdir -p /run/systemd/system /usr/local/lib/systemd/system')
    atFirst = await root.inventory()
    const seen = path.join('/mnt', path.relative(BUNDLES, file))
    await root.shell(`sh -s -- ${seen} ${sha256} <<'END'\n${UNPACK}\nEND`)
  })
  after(() => root?.remove())

  it('has a unit that is enabled, and is set up once', async () => {
    const { changed } = await howdah(SETUP)
    expect(changed).to.include.members([UNIT_FILE, `service ${UNIT}`])
    expect(await root.shell(`SYSTEMD_OFFLINE=1 systemctl is-enabled ${UNIT}`)).to.equal('enabled\n')
    expect(await root.shell(`systemd-analyze verify --man=no ${UNIT_FILE} 2>&1`)).to.equal('')
    expect((await howdah(SETUP)).changed).to.deep.equal([])
  })

  it('has the capabilities that it has without systemd, with which the tests run it', () => {
    const unit = readFileSync(path.join(CHECKOUT, 'coordinator/fleet/host/files', UNIT), 'utf8')
    const supervise = readFileSync(path.join(CHECKOUT, 'bin/howdah-supervise'), 'utf8')
    const [, ofUnit = ''] = /^CapabilityBoundingSet=(.*)$/m.exec(unit) ?? []
    const [, ofSupervise = ''] = /^target_capabilities=(.*)$/m.exec(supervise) ?? []
    const expected = ofUnit.split(' ').map((name) => name.replace('CAP_', '+').toLowerCase())
    expect(ofSupervise.split(',')).to.deep.equal(expected)
  })

  it('keeps drop-ins, and a unit that was edited, and says what to do', async () => {
    const dropIn = `/etc/systemd/system/${UNIT}.d/override.conf`
    await root.shell(`mkdir -p $(dirname ${dropIn}) && echo '[Service]' > ${dropIn}`)
    expect((await howdah(SETUP)).changed).to.deep.equal([])
    await root.shell(`cp ${UNIT_FILE} /tmp/unit && echo Nice=5 >> ${UNIT_FILE}`)
    const { changed, kept } = await howdah(SETUP)
    expect(changed).to.deep.equal([])
    expect(kept.join('\n')).to.include(`${UNIT_FILE}: it was edited; move the changes to a drop-in`)
    expect(await root.shell(`tail -n 1 ${UNIT_FILE}`)).to.equal('Nice=5\n')
    await root.shell(`mv /tmp/unit ${UNIT_FILE} && rm -r $(dirname ${dropIn})`)
  })

  it('replaces the unit of an earlier version', async () => {
    const program = `/opt/howdah/${VERSION}/dist/coordinator/fleet/host/files/${UNIT}`
    await root.shell(`cp ${program} /tmp/unit && sed -i s/RestartSec=5/RestartSec=6/ ${program}`)
    expect((await howdah(SETUP)).changed).to.deep.equal([UNIT_FILE])
    expect(await root.shell(`grep RestartSec ${UNIT_FILE}`)).to.equal('RestartSec=6\n')
    await root.shell(`mv /tmp/unit ${program}`)
  })

  it('is removed, and nothing is left', async () => {
    await howdah('agent remove --purge --json')
    expect(inventoryDifference(atFirst, await root.inventory())).to.deep.equal([])
  })
})
