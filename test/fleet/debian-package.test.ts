/** The Debian package in bare Debian 12 and 13: installed by dpkg alone, upgraded, refused, removed and purged. */
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import { BUNDLES, type Bundle, testBundle } from '../support/bundle.ts'
import { type DebianRoot, inventoryDifference, makeDebianRoot } from '../support/debian-root.ts'
import { signRequest } from '../support/openssl-authority.ts'
import { scratchDirectory } from '../support/scratch.ts'

const [OLD, NEW] = ['9.0.0', '9.1.0']
const SETUP =
  'howdah agent setup --kind mount --name backup-1 --broker amqp://127.0.0.1:1 --advertise localhost'
for (const release of [12, 13] as const) {
  describe(`the Debian package in a bare Debian ${release}`, function () {
    this.timeout(240_000)
    let old: Bundle
    let next: Bundle
    let root: DebianRoot
    let atFirst: string[]

    const install = ({ debianPackage }: Bundle) =>
      root.shell(`dpkg -i ${path.join('/mnt', path.relative(BUNDLES, debianPackage))} 2>&1`)
    const agents = async () =>
      (JSON.parse(await root.shell('howdah agent status --json || true')) as { agents: unknown[] }).agents

    before(async () => {
      old = await testBundle(OLD)
      next = await testBundle(NEW)
      root = await makeDebianRoot(release)
      atFirst = await root.inventory()
    })
    after(() => root?.remove())

    it('is installed without anything else, and starts nothing', async () => {
      await install(old)
      expect(await root.shell('howdah --version')).to.equal(`howdah ${OLD}\n`)
      expect(await root.shell('readlink -f /usr/bin/howdah')).to.equal(`/opt/howdah/${OLD}/bin/howdah\n`)
      expect(await root.shell('dpkg --verify howdah')).to.equal('')
      expect(await agents()).to.deep.equal([])
    })

    if (release === 13)
      it('has units that systemd understands, and rates as exposed no more than they must be', async () => {
        for (const [role, exposure] of [
          ['target-agent', 60],
          ['mount-agent', 20],
          ['coordinator', 20],
        ] as const) {
          const unit = `/usr/lib/systemd/system/howdah-${role}.service`
          const said = await root.shell(`systemd-analyze verify --man=no ${unit} 2>&1`)
          expect(said, role).to.equal('')
          await root.shell(`systemd-analyze security --offline=true --threshold=${exposure} ${unit} 2>&1`)
          await root.shell(`systemctl enable ${unit} 2>&1 && systemctl disable ${unit} 2>&1`)
        }
      })

    it('is upgraded with the agents that run, and keeps their configuration', async () => {
      await root.shell(SETUP)
      await certify()
      await root.shell('echo >> /etc/howdah/mount-agent.json; howdah agent start')
      const configuration = await root.shell('cat /etc/howdah/mount-agent.json')
      expect(await agents()).to.have.nested.property('[0].version', OLD)
      await install(next)
      expect(await agents()).to.have.nested.property('[0].version', NEW)
      expect(await root.shell('cat /etc/howdah/mount-agent.json')).to.equal(configuration)
      expect(await root.shell('ls -A /opt/howdah')).to.equal(`${NEW}\ncurrent\n`)
      expect(JSON.parse(await root.shell(`${SETUP} --json`)).changed).to.deep.equal([])
    })

    it('is not configured while it does not take a configuration, and goes on when that is mended', async () => {
      await root.shell(`sed -i '1s/{/{ "keyOfAnotherRelease": 1,/' /etc/howdah/mount-agent.json`)
      const said = await install(old).then(
        () => 'it succeeded',
        (error: Error) => error.message,
      )
      expect(said).to.include('keyOfAnotherRelease')
      expect(await agents()).to.deep.equal([{ kind: 'mount', state: 'stopped' }])
      await root.shell(`sed -i 's/"keyOfAnotherRelease": 1,//' /etc/howdah/mount-agent.json`)
      await root.shell('dpkg --configure howdah')
      expect(await agents()).to.have.nested.property('[0].version', OLD)
    })

    it('is not removed while there are sessions', async () => {
      await root.shell(
        `howdah agent setup --kind target --name db-7 --broker amqp://127.0.0.1:1 && mkdir -p /var/tmp/howdah/main-abc && echo {} > /var/tmp/howdah/main-abc/mount.json`,
      )
      const said = await root.shell('dpkg --purge howdah 2>&1').then(
        () => 'it succeeded',
        (error: Error) => error.message,
      )
      expect(said).to.include('there are sessions on this host: main-abc')
      await root.shell('rm -r /var/tmp/howdah/main-abc')
    })

    it('is purged, and nothing is left', async () => {
      await root.shell('dpkg --purge howdah 2>&1')
      expect(inventoryDifference(atFirst, await root.inventory())).to.deep.equal([])
      expect(await root.shell('grep -c howdah /etc/passwd /etc/group /etc/shadow || true')).to.not.match(
        /:[1-9]/,
      )
    })

    async function certify(): Promise<void> {
      const request = await root.shell('howdah agent request --kind mount --name backup-1 --json')
      const authority = await scratchDirectory('howdah-authority-')
      const signed = JSON.stringify(signRequest(authority, (JSON.parse(request) as { csr: string }).csr))
      await rm(authority, { recursive: true })
      await root.shell(`howdah agent accept --kind mount <<'END'\n${signed}\nEND`)
    }
  })
}
