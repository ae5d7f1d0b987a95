/**
 * bin/prepare on each system that its table names, told by /etc/os-release of a mount namespace: what it would install, as
 * somebody who may not. Nothing is installed. Takes root.
 */
import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { scratchDirectory } from '../support/scratch.ts'

const run = promisify(execFile)
const CHECKOUT = path.resolve(import.meta.dirname, '../..')

describe('bin/prepare', function () {
  this.timeout(30_000)
  let scratch: string

  beforeEach(async () => {
    scratch = await scratchDirectory('howdah-prepare-')
    chmodSync(scratch, 0o755)
    mkdirSync(path.join(scratch, 'programs'))
    for (const name of ['bin/prepare', 'test/prepare'])
      await cp(path.join(CHECKOUT, name), path.join(scratch, name), { recursive: true })
  })
  afterEach(() => rmSync(scratch, { recursive: true, force: true }))

  /** Stands in front of the program of that name. */
  const program = (name: string, script: string) =>
    writeFileSync(path.join(scratch, 'programs', name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })

  /** What it says, without the indentation. It fails: packages are missing. */
  async function prepare(id: string, version: string, purpose = 'demo'): Promise<string> {
    const release = `ID=${id}\nVERSION_ID="${version}"\nPRETTY_NAME="${id} ${version}"\n`
    writeFileSync(path.join(scratch, 'os-release'), release)
    const script = `
      mount --bind ${scratch}/os-release /etc/os-release
      export PATH=${scratch}/programs:$PATH
      exec setpriv --reuid=65534 --regid=65534 --clear-groups sh ${scratch}/bin/prepare ${purpose}`
    const namespace = ['--mount', '--propagation=private']
    return run('unshare', [...namespace, '/bin/sh', '-euc', script], { cwd: '/' }).then(
      () => 'it succeeded',
      ({ stderr }: { stderr: string }) => stderr.replaceAll(/^ +/gm, ''),
    )
  }

  /** The names after `apt-get install` or `dnf install`. */
  const wanted = (said: string) =>
    /(?:apt-get|dnf) install (?:--no-install-recommends )?(.*)/.exec(said)?.[1]?.trim().split(/\s+/)

  for (const [id, version, postgres, libfuse, fusermount, jdk] of [
    ['debian', '12', 'postgresql-15', 'libfuse2', 'fuse', 'openjdk-17-jdk-headless'],
    ['debian', '13', 'postgresql-17', 'libfuse2t64', 'fuse3', 'openjdk-21-jdk-headless'],
    ['ubuntu', '22.04', 'postgresql-14', 'libfuse2', 'fuse3', 'openjdk-17-jdk-headless'],
    ['ubuntu', '24.04', 'postgresql-16', 'libfuse2t64', 'fuse3', 'openjdk-21-jdk-headless'],
  ] as const) {
    it(`names the packages of ${id} ${version}, where none is installed`, async () => {
      program('dpkg-query', 'exit 1')
      program('apt-cache', 'exit 0')
      const demo = ['rabbitmq-server', postgres, 'pgbackrest', libfuse, fusermount, 'procps', 'nftables']
      expect(wanted(await prepare(id, version))).to.deep.equal(demo)
      const test = wanted(await prepare(id, version, 'test'))
      const tmpfiles = id === 'debian' ? 'systemd-standalone-tmpfiles' : 'systemd'
      expect(test).to.include.members([...demo, jdk, 'barman', 'bzip2', tmpfiles])
      expect(test?.includes('python3-zstandard')).to.equal(version !== '12')
      expect(test?.filter((name) => !/^[a-z0-9][a-z0-9.-]+$/.test(name))).to.deep.equal([])
    })
  }

  it('takes what is installed, or what takes its place, and nothing that is only configured', async () => {
    program('apt-cache', 'exit 0')
    const all = ['rabbitmq-server', 'postgresql-15', 'pgbackrest', 'libfuse2', 'fuse3', 'procps']
    const lines = [...all.map((name) => `ii ${name}`), 'rc nftables'].join('\n')
    program('dpkg-query', `case $* in *Version*) exit 1 ;; *) cat <<'END'\n${lines}\nEND\nesac`)
    expect(wanted(await prepare('debian', '12'))).to.deep.equal(['nftables'])
  })

  it('refuses packages that are too old, before it installs any', async () => {
    program('dpkg-query', 'exit 1')
    program(
      'apt-cache',
      `[ "$2" = rabbitmq-server ] && echo '  Candidate: 3.9.27-0ubuntu0.1' || echo '  Candidate: 2.50-1'`,
    )
    const said = await prepare('ubuntu', '22.04')
    expect(said).to.include('rabbitmq-server is 3.9.27-0ubuntu0.1; 3.10 or later is needed')
    expect(said).to.include('https://www.rabbitmq.com/docs/install-debian')
    expect(said).to.not.include('pgbackrest is')
    expect(wanted(said)).to.equal(undefined)
  })

  it('names the packages of dnf where that is, and says where they are and that they were not tried', async () => {
    program('dnf', 'exit 1')
    program('ldconfig', 'exit 0')
    const said = await prepare('rocky', '9.5')
    expect(wanted(said)).to.deep.equal(['fuse-libs'])
    expect(said).to.match(/this is rocky 9\.5, where nothing is installed for you.*PGDG.*were not tried/s)
  })

  it('names them as Debian 13 does on any other system', async () => {
    program('ldconfig', 'exit 0')
    expect(await prepare('arch', '')).to.match(
      /what Debian 13 calls:\nlibfuse2t64 *\n.*RabbitMQ 3\.10 or later/,
    )
  })

  it('removes what tests made and nothing has used for a week', async () => {
    const cache = path.join(scratch, 'cache')
    const names = ['bundles', 'debian-12', 'layer-new', 'layer-old', 'npm-old', 'postgres-used']
    for (const name of names) mkdirSync(path.join(cache, name), { recursive: true })
    for (const name of names.filter((name) => name !== 'layer-new'))
      utimesSync(path.join(cache, name), new Date(), new Date(Date.now() - 8 * 86_400_000))
    const script = `. ${CHECKOUT}/test/prepare/caches.sh; roots=${cache}; in_use $roots/postgres-used && remove_old_caches`
    await run('sh', ['-euc', script])
    expect(readdirSync(cache).sort()).to.deep.equal(['bundles', 'debian-12', 'layer-new', 'postgres-used'])
  })
})
