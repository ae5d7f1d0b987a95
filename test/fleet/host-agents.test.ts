/**
 * An agent on its host, from the unpacking of a bundle to its removal, on a host without systemd: a mount namespace with
 * directories of its own, where nothing but the bundle is installed.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { identify, isAlive } from '../../config/process-identity.ts'
import { type Bundle, testBundle } from '../support/bundle.ts'
import { type HostRoot, makeHostRoot } from '../support/host-root.ts'
import { signRequest } from '../support/openssl-authority.ts'
import { poll } from '../support/poll.ts'

const UNPACK = path.resolve(import.meta.dirname, '../../bin/unpack-bundle')
const VERSION = '9.0.0'
const SETUP = 'agent setup --kind target --name db-7 --broker amqp://127.0.0.1:1'

const run = promisify(execFile)

interface Report {
  readonly changed: string[]
  readonly kept: string[]
}

describe('an agent on its host', function () {
  this.timeout(180_000)
  let bundle: Bundle
  let host: HostRoot
  let atFirst: string[]

  const inHost = (file: string) => path.join(host.root, file)
  const unpack = (file = bundle.file, sum = bundle.sha256) => host.shell(`sh ${UNPACK} ${file} ${sum}`)
  const howdah = (args: string) => host.shell(`/opt/howdah/current/bin/howdah ${args}`)
  const howdahJson = async <T>(args: string): Promise<T> => JSON.parse(await howdah(`${args} --json`)) as T
  const processId = (name: string) =>
    Number(readFileSync(inHost(`run/howdah/target-agent.${name}`), 'utf8').split(' ')[0])

  /** What of the host's directories is not the copied /etc, and the names in that. */
  const tree = () =>
    readdirSync(host.root, { recursive: true, encoding: 'utf8' })
      .filter((name) => !name.startsWith('tmp/') && !/^etc\/(passwd|group|g?shadow|sub[ug]id)-?$/.test(name))
      .sort()

  async function failure(action: Promise<unknown>): Promise<{ code: number; stderr: string }> {
    try {
      await action
    } catch (error) {
      return error as { code: number; stderr: string }
    }
    throw new Error('it succeeded')
  }

  before(async () => {
    bundle = await testBundle(VERSION)
    host = await makeHostRoot()
    atFirst = tree()
  })
  after(() => host?.remove())

  describe('unpacking', () => {
    it('refuses a file with another hash, and one that was cut off', async () => {
      const cut = inHost('opt/cut.tar.gz')
      await run('sh', ['-c', `head -c 20000000 ${bundle.file} > ${cut}`])
      for (const [file, sum] of [
        [bundle.file, bundle.sha256.replace(/^./, 'x')],
        ['/opt/cut.tar.gz', bundle.sha256],
      ]) {
        const { code, stderr } = await failure(unpack(file, sum))
        expect(code).to.equal(4)
        expect(stderr).to.include('copy it again')
      }
      expect(existsSync(inHost('opt/howdah'))).to.equal(false)
      await host.shell('rm /opt/cut.tar.gz')
    })

    it('names a full disk, leaves nothing that looks like a version, and goes on when there is room; on a file system of its own', async () => {
      await host.shell('mkdir /opt/howdah && mount -t tmpfs -o size=60m tmpfs /opt/howdah')
      const { code, stderr } = await failure(unpack())
      expect(code).to.equal(5)
      expect(stderr).to.include('a version takes about 150 MiB')
      expect(await host.shell('ls /opt/howdah')).to.equal('')
      await host.shell('mount -o remount,size=400m /opt/howdah')
      expect(JSON.parse(await unpack())).to.deep.equal({ version: VERSION, changed: true })
      await host.shell('umount /opt/howdah && rmdir /opt/howdah')
    })

    it('makes no version when it is killed in the middle, and the next run does, once', async () => {
      const [program, ...args] = host.on(['sh', UNPACK, bundle.file, bundle.sha256])
      // A process group of its own, so that all of it is killed.
      const cut = spawn(program, args, { detached: true, stdio: 'ignore' })
      await poll(() => existsSync(inHost(`opt/howdah/${VERSION}.partial/bin`)) || undefined, {
        deadlineMs: 30_000,
        everyMs: 5,
        failure: () => 'nothing was unpacked',
      })
      process.kill(-(cut.pid ?? 0), 'SIGKILL')
      await once(cut, 'exit')
      expect(existsSync(inHost(`opt/howdah/${VERSION}`))).to.equal(false)
      expect(existsSync(inHost(`opt/howdah/${VERSION}.partial`))).to.equal(true)
      expect(JSON.parse(await unpack())).to.deep.equal({ version: VERSION, changed: true })
      expect(JSON.parse(await unpack())).to.deep.equal({ version: VERSION, changed: false })
      expect(readdirSync(inHost('opt/howdah')).sort()).to.deep.equal(['.lock', VERSION])
    })
  })

  describe('the set-up', () => {
    it('makes user, directories, configuration, command and a start at boot, once', async () => {
      const first = JSON.parse(
        await host.shell(`/opt/howdah/${VERSION}/bin/howdah ${SETUP} --json`),
      ) as Report
      expect(first.kept).to.deep.equal([])
      expect(first.changed).to.have.members([
        `version ${VERSION}`,
        'user howdah',
        '/etc/howdah',
        '/etc/howdah/tls',
        '/var/lib/howdah',
        '/var/lib/howdah/target-agent',
        '/etc/howdah/target-agent.json',
        '/usr/local/bin/howdah',
        '/etc/init.d/howdah-target-agent',
      ])
      const again = JSON.parse(await host.shell(`howdah ${SETUP} --json`)) as Report
      expect(again.changed).to.deep.equal([])
      expect(again.kept).to.have.members(first.changed)
      expect(statSync(inHost('etc/howdah/target-agent.json')).mode & 0o777).to.equal(0o600)
      expect(statSync(inHost('var/lib/howdah/target-agent')).mode & 0o777).to.equal(0o700)
      expect(readdirSync(inHost('etc/rc2.d')).join()).to.match(/S\d+howdah-target-agent/)
    })

    it('never changes a configuration, and refuses the name of another agent', async () => {
      const file = inHost('etc/howdah/target-agent.json')
      const edited = `${readFileSync(file, 'utf8').trimEnd()}\n\n`
      writeFileSync(file, edited)
      const other = { broker: 'amqp://127.0.0.1:2', name: 'db-7' }
      await howdah(`agent setup --kind target --name ${other.name} --broker ${other.broker}`)
      expect(readFileSync(file, 'utf8')).to.equal(edited)
      const { stderr } = await failure(howdah(SETUP.replace('db-7', 'db-8').concat(' --json')))
      expect(stderr).to.include('is of the target agent "db-7"')
    })

    it('keeps an init script that was edited, and a command that is another program, and says so', async () => {
      const script = inHost('etc/init.d/howdah-target-agent')
      const original = readFileSync(script, 'utf8')
      writeFileSync(script, original.replace('exec ', 'nice exec '))
      await host.shell('rm /usr/local/bin/howdah && echo other > /usr/local/bin/howdah')
      const { changed, kept } = await howdahJson<Report>(SETUP)
      expect(changed).to.deep.equal([])
      expect(kept.join('\n')).to.match(/howdah-target-agent: it was edited/)
      expect(kept.join('\n')).to.match(/bin\/howdah: it is another program/)
      expect(readFileSync(script, 'utf8')).to.include('nice exec')
      writeFileSync(script, original)
      await host.shell('rm /usr/local/bin/howdah')
      expect((await howdahJson<Report>(SETUP)).changed).to.deep.equal(['/usr/local/bin/howdah'])
    })
  })

  describe('without systemd', () => {
    it('runs supervised, started as at boot, and is started again when it dies', async () => {
      // It has no certificate yet, so it ends at once, again and again, and its log says why.
      await failure(host.shell('/etc/init.d/howdah-target-agent status'))
      await host.shell('/etc/rc2.d/S*howdah-target-agent start')
      await logHas('ended with status 2; starting it again in 2 s')
      expect(readFileSync(inHost('var/log/howdah/target-agent.log'), 'utf8')).to.match(
        /tls\.(ca|key|certificate)/,
      )
      expect(await failure(host.shell('/opt/howdah/current/bin/howdah-supervise target-agent'))).to.include({
        code: 3,
      })
      await host.shell('/etc/init.d/howdah-target-agent stop')
      expect(identify(processId('supervisor'))).to.equal(undefined)
    })

    it('survives the kill -9 of its supervisor until the next start, which replaces it', async () => {
      await certify()
      await howdah('agent start')
      const agent = identify(processId('pid'))
      if (agent === undefined) throw new Error('no agent runs')
      process.kill(processId('supervisor'), 'SIGKILL')
      expect(isAlive(agent)).to.equal(true)
      expect((await howdahJson<{ agents: unknown[] }>('agent status')).agents).to.deep.equal([
        { kind: 'target', state: 'running', pid: agent.pid, version: VERSION },
      ])
      await howdah('agent start')
      await logHas(`agent ${agent.pid} has lost its supervisor; ending it`)
      await poll(() => (isAlive(agent) ? undefined : true), {
        deadlineMs: 30_000,
        failure: () => 'the old agent lives',
      })
      await howdah('agent stop')
      expect((await failure(howdah('agent status'))).code).to.equal(3)
    })

    it('stops an agent that lost its supervisor', async () => {
      await howdah('agent start')
      const agent = identify(processId('pid'))
      process.kill(processId('supervisor'), 'SIGKILL')
      await howdah('agent stop')
      expect(agent && isAlive(agent)).to.equal(false)
    })

    it('bounds its log', async () => {
      const log = inHost('var/log/howdah/target-agent.log')
      writeFileSync(log, 'x'.repeat(100_000))
      await host.shell(
        'HOWDAH_SUPERVISE_LOG_BYTES=50000 setsid /opt/howdah/current/bin/howdah-supervise target-agent >/dev/null 2>&1 &',
      )
      await poll(() => (existsSync(`${log}.1`) ? true : undefined), {
        deadlineMs: 20_000,
        failure: () => 'it was not set aside',
      })
      expect(statSync(`${log}.1`).size).to.be.at.least(100_000)
      await poll(() => (statSync(log).size < 50_000 ? true : undefined), {
        deadlineMs: 20_000,
        failure: () => 'it is not shorter',
      })
      await howdah('agent stop')
    })
  })

  describe('a switch', () => {
    it('is refused to a version that is not there, or not the whole of one', async () => {
      mkdirSync(inHost('opt/howdah/9.9.9'))
      for (const version of ['9.9.8', '9.9.9', '..', 'current']) {
        const { stderr } = await failure(howdah(`agent switch ${version}`))
        expect(stderr).to.include(`version ${version} is not installed here`)
      }
      expect(await host.shell('readlink /opt/howdah/current')).to.equal(`${VERSION}\n`)
    })

    it('is refused to a version that does not take the configuration, before anything is changed', async () => {
      await host.shell(
        `cp -a /opt/howdah/${VERSION} /opt/howdah/9.0.1 && sed -i s/${VERSION}/9.0.1/ /opt/howdah/9.0.1/package.json`,
      )
      const file = inHost('etc/howdah/target-agent.json')
      const configuration = readFileSync(file, 'utf8')
      writeFileSync(file, configuration.replace('{', '{ "keyOfAnotherRelease": 1,'))
      const { stderr } = await failure(host.shell('/opt/howdah/9.0.1/bin/howdah agent switch 9.0.1'))
      expect(stderr).to.include('keyOfAnotherRelease').and.to.include('nothing was changed')
      expect(await host.shell('readlink /opt/howdah/current')).to.equal(`${VERSION}\n`)
      writeFileSync(file, configuration)
    })

    it('restarts what runs in the new version, keeps the one before, and removes what was never complete', async () => {
      await howdah('agent start')
      const report = JSON.parse(
        await host.shell('/opt/howdah/9.0.1/bin/howdah agent switch 9.0.1 --json'),
      ) as Report
      expect(report.changed).to.deep.equal([
        'version 9.0.1',
        'target agent: restarted',
        'removed version 9.9.9',
      ])
      const status = await howdahJson<{ agents: { version: string }[]; previous: string }>('agent status')
      expect(status.agents[0]?.version).to.equal('9.0.1')
      expect(status.previous).to.equal(VERSION)
      expect((await howdahJson<Report>('agent switch 9.0.1')).changed).to.deep.equal([])
      const back = JSON.parse(
        await host.shell(`/opt/howdah/${VERSION}/bin/howdah agent switch ${VERSION} --json`),
      ) as Report
      expect(back.changed).to.deep.equal([`version ${VERSION}`, 'target agent: restarted'])
    })
  })

  describe('a mount agent', () => {
    it('runs as its own user, with the one capability to read repositories', async () => {
      await howdah(
        'agent setup --kind mount --name backup-1 --broker amqp://127.0.0.1:1 --advertise localhost',
      )
      await certify('mount')
      await howdah('agent start --kind mount')
      const pid = readFileSync(inHost('run/howdah/mount-agent.pid'), 'utf8').split(' ')[0]
      const status = readFileSync(`/proc/${pid}/status`, 'utf8')
      const uid = (await host.shell('id -u howdah')).trim()
      expect(status).to.match(new RegExp(`^Uid:\\s+${uid}\\s+${uid}\\s+${uid}\\s+${uid}$`, 'm'))
      const DAC_READ_SEARCH = '0000000000000004'
      for (const set of ['CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
        expect(status).to.match(new RegExp(`^${set}:\\s${DAC_READ_SEARCH}$`, 'm'))
      expect(status).to.match(/^NoNewPrivs:\s1$/m)
    })

    it('can replace its own certificate, which it renews, and no other file', async () => {
      const asAgent = (command: string) =>
        host.shell(
          `cd /etc/howdah/tls && setpriv --reuid howdah --regid howdah --init-groups --bounding-set -all sh -c '${command}'`,
        )
      await asAgent('cp mount-agent.pem mount-agent.pem.new && mv -f mount-agent.pem.new mount-agent.pem')
      for (const file of ['ca.pem', 'target-agent.pem', 'target-agent.key']) {
        await asAgent('echo forged > forged')
        expect((await failure(asAgent(`mv -f forged ${file}`))).stderr).to.include('not permitted')
        await asAgent('rm forged')
      }
      expect((await failure(asAgent('cat target-agent.key'))).stderr).to.include('Permission denied')
    })
  })

  describe('the removal', () => {
    it('is refused while a write cache is there, and then leaves nothing', async () => {
      await host.shell(
        'mkdir -p /var/tmp/howdah/main-abc/conf && echo {} > /var/tmp/howdah/main-abc/conf/session.json',
      )
      const { stderr } = await failure(howdah('agent remove --purge'))
      expect(stderr).to.include('there are sessions on this host: main-abc')
      await host.shell('rm -r /var/tmp/howdah/main-abc')
      // As what an agent has started, which ends a moment after it.
      await host.shell('setpriv --reuid=howdah --clear-groups sleep 2 </dev/null >/dev/null 2>&1 &')
      await howdah('agent remove --purge')
      const after = tree()
      expect(after.filter((name) => !atFirst.includes(name))).to.deep.equal([])
      expect(atFirst.filter((name) => !after.includes(name))).to.deep.equal([])
      expect((await failure(host.shell('getent passwd howdah'))).code).to.equal(2)
    })
  })

  async function logHas(text: string): Promise<void> {
    const log = inHost('var/log/howdah/target-agent.log')
    await poll(() => (existsSync(log) && readFileSync(log, 'utf8').includes(text)) || undefined, {
      deadlineMs: 30_000,
      failure: () => `the log does not say "${text}": ${readFileSync(log, 'utf8')}`,
    })
  }

  /** Certificates as files of the authority on this machine. */
  async function certify(kind: 'target' | 'mount' = 'target'): Promise<void> {
    const name = kind === 'target' ? 'db-7' : 'backup-1'
    const { csr } = await howdahJson<{ csr: string }>(`agent request --kind ${kind} --name ${name}`)
    const signed = signRequest(inHost('tmp/authority'), csr)
    writeFileSync(inHost('tmp/signed.json'), JSON.stringify(signed))
    await howdah(`agent accept --kind ${kind} < /tmp/signed.json`)
  }
})
