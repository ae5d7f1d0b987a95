/**
 * Howdah as npm installs it: the packed tarball in a bare Debian 12 that has Node.js and npm, but no libfuse, no Python and no
 * compiler; and a publish by what was installed there.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { globSync, readFileSync, readlinkSync, realpathSync, rmSync } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { checkScript } from '../../coordinator/fleet/install/check-script.ts'
import { parseFacts } from '../../coordinator/fleet/install/host-facts.ts'
import type { SessionView } from '../../messages/values.ts'
import { createHowdah, type Howdah } from '../demo/howdah.ts'
import { type DebianRoot, makeDebianRoot } from '../support/debian-root.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { scratchDirectory } from '../support/scratch.ts'

const run = promisify(execFile)
const CHECKOUT = path.resolve(import.meta.dirname, '../..')
const { version } = JSON.parse(readFileSync(path.join(CHECKOUT, 'package.json'), 'utf8')) as {
  version: string
}
/** Nothing of the checkout can be found by its name. */
const SYSTEM_PATH = '/usr/sbin:/usr/bin:/sbin:/bin'
const INSTALLED = '/usr/lib/node_modules/howdah'
const ROOMS = '{agents,config,coordinator,messages}'

describe('Howdah installed by npm', function () {
  this.timeout(180_000)
  let scratch: string
  let directory: string
  let root: DebianRoot
  let production: Production
  let howdah: Howdah | undefined

  before(async () => {
    scratch = await scratchDirectory('howdah-npm-')
    directory = await mkdtemp(path.join(tmpdir(), 'howdah-npm-'))
    await chmod(directory, 0o755)
    const packed = pack(path.join(scratch, 'checkout'))
    // Reported below.
    packed.catch(() => undefined)
    production = await makeProduction()
    await production.backup('full')
    const tarball = await packed
    root = await makeDebianRoot(12, { ...(await nodeAndNpm()), [tarball]: '/tmp/howdah.tgz' })
    await root.shell('ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/bin/npm')
    const quiet = '--no-audit --no-fund --no-update-notifier --loglevel=error --logs-max=0 --offline'
    await root.shell(`HOME=/root npm install --global ${quiet} /tmp/howdah.tgz 2>&1`)
  })
  after(async () => {
    try {
      await howdah?.stop()
      await production?.remove()
    } finally {
      await root?.remove()
      for (const made of [scratch, directory]) rmSync(made, { recursive: true, force: true })
    }
  })

  it('is complete, and runs on the Node.js that came with it', async () => {
    expect(await root.shell('howdah --version')).to.equal(`howdah ${version}\n`)
    expect(await root.shell(`${INSTALLED}/node_modules/node/bin/node --version`)).to.match(/^v24\./)
    const others = globSync(`${ROOMS}/**/*`, { cwd: CHECKOUT, withFileTypes: true })
      // What begins with `compose-` is mounted by docker-compose.yml only.
      .filter((entry) => entry.isFile() && !/\.ts$|^compose-/.test(entry.name))
      .map((entry) => path.relative(CHECKOUT, path.join(entry.parentPath, entry.name)))
    const there = await root.shell(`cd ${INSTALLED} && find . dist -type f -printf '%P\\n'`)
    expect(others).to.include('coordinator/fleet/host/files/howdah-target-agent.service')
    expect(there.split('\n')).to.include.members(others)
    expect(await root.shell(`ls ${INSTALLED}/bin`)).to.equal('howdah\nhowdah-supervise\nunpack-bundle\n')
  })

  it('shows its help, its manual pages and its completion', async () => {
    expect(await root.shell('howdah help publish')).to.include('howdah publish - ')
    for (const role of ['coordinator', 'mount-agent', 'target-agent'])
      expect(await root.shell(`howdah ${role} --help`), role).to.include(`howdah ${role}`)
    await root.shell('howdah man --directory /tmp/man && test -s /tmp/man/howdah-publish.1')
    expect(await root.shell('howdah completion bash')).to.include('_howdah()')
  })

  it('is not taken for the Debian package, although npm may put it in the same place', async () => {
    expect(await root.shell('readlink -f /usr/bin/howdah')).to.equal(`${INSTALLED}/bin/howdah\n`)
    expect(JSON.parse(await root.shell('howdah agent status --json || true'))).to.include({
      installedBy: 'bundle',
    })
    expect(parseFacts(await root.shell(checkScript([])))).to.have.property('package', undefined)
    const setup = 'howdah agent setup --kind target --name db-7 --broker amqp://127.0.0.1:1 2>&1 || true'
    expect(await root.shell(setup)).to.include(
      'does not run from /opt/howdah: install the bundle or the Debian package first',
    )
  })

  it('publishes', async () => {
    const program = path.join(root.changes, INSTALLED, 'bin/howdah')
    howdah = createHowdah({
      program,
      state: path.join(directory, 'state'),
      repository: `main=pgbackrest:${production.path}`,
      logFile: path.join(directory, 'howdah.log'),
      env: {
        PATH: SYSTEM_PATH,
        HOWDAH_MOUNT_ROOT: path.join(directory, 'mounts'),
        HOWDAH_CACHE_ROOT: path.join(directory, 'caches'),
      },
      signal: AbortSignal.timeout(120_000),
    })
    await howdah.up()
    const source = ['--repository', 'main', '--instance', production.stanza, '--target', 'local']
    const session = await howdah.json<SessionView>('publish', ...source)
    expect(session.state).to.equal('published')
    const { stdout } = await run('pgrep', ['--full', `^howdah mount ${session.id}$`])
    expect(readlinkSync(`/proc/${stdout.trim()}/exe`)).to.equal(
      path.join(root.changes, INSTALLED, 'node_modules/node/bin/node'),
    )
    await howdah.json('unpublish', session.id, '--yes')
    await howdah.stop()
  })
})

/** As `npm pack` in the checkout, which leaves it unchanged. @returns the tarball */
async function pack(copy: string): Promise<string> {
  await mkdir(copy)
  const names = [
    ...'agents config coordinator messages bin docs'.split(' '),
    ...globSync('*.{json,md}', { cwd: CHECKOUT }),
    'LICENSE',
  ]
  for (const name of names) await cp(path.join(CHECKOUT, name), path.join(copy, name), { recursive: true })
  await symlink(path.join(CHECKOUT, 'node_modules'), path.join(copy, 'node_modules'))
  await run('npm', ['pack', '--loglevel=error'], { cwd: copy })
  return path.join(copy, `howdah-${version}.tgz`)
}

/** This machine's, and the packages that bin/prepare has fetched. */
async function nodeAndNpm(): Promise<Record<string, string>> {
  const npm = realpathSync((await run('sh', ['-c', 'command -v npm'])).stdout.trim())
  const lock = createHash('sha256').update(readFileSync(path.join(CHECKOUT, 'package-lock.json')))
  return {
    [process.execPath]: '/usr/bin/node',
    [path.resolve(npm, '../..')]: '/usr/lib/node_modules/npm',
    [`/var/cache/howdah-test/npm-${lock.digest('hex').slice(0, 16)}`]: '/root/.npm',
  }
}
