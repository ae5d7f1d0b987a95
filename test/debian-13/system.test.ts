import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { expect } from 'chai'
import { DEBIAN_13 } from '../support/layers.ts'
import { poll } from '../support/poll.ts'
import { type DebianSystem, startDebianSystem } from './system.ts'

const DEADLINE_MS = 10_000

describe('a Debian 13 for tests', function () {
  this.timeout(30_000)
  let system: DebianSystem | undefined

  afterEach(async () => {
    await system?.remove()
    system = undefined
  })

  it('has the checkout, and a network and processes of its own', async () => {
    system = await startDebianSystem(DEBIAN_13)
    const script =
      'test -x bin/howdah && . /etc/os-release && test $VERSION_ID = 13 && test $(ls -d /proc/[0-9]* | wc -l) -lt 10'
    expect(await system.run(['sh', '-c', `${script} && ls /sys/class/net >/tmp/networks`])).to.equal(0)
    expect(await system.read('/tmp/networks')).to.equal('lo\n')
    expect(await system.run(['sh', '-c', 'exit 3'])).to.equal(3)
  })

  it('keeps what is written there to itself, and is gone when it is removed', async () => {
    system = await startDebianSystem(DEBIAN_13)
    expect(await system.run(['sh', '-c', 'echo x >>package.json && echo x >/etc/hostname'])).to.equal(0)
    expect(readFileSync('package.json', 'utf8')).not.to.match(/x$/)
    const { directory, group } = system.traces
    await system.remove()
    expect([directory, group].filter((trace) => existsSync(trace))).to.deep.equal([])
  })

  it('ends with all that runs there, and is gone, when its process is killed', async () => {
    const sleeper = spawn(process.execPath, [path.join(import.meta.dirname, 'sleeper.ts')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [line] = (await once(sleeper.stdout, 'data')) as [Buffer]
    const { directory, group } = JSON.parse(line.toString()) as DebianSystem['traces']
    const processes = () => readFileSync(path.join(group, 'cgroup.procs'), 'utf8').split('\n')
    // The sleeping ones, and what holds the system.
    await poll(async () => processes().length > 5 || undefined, {
      deadlineMs: DEADLINE_MS,
      failure: () => `only these processes run there: ${processes().join(' ')}`,
    })
    sleeper.kill('SIGKILL')
    await poll(async () => [directory, group].every((trace) => !existsSync(trace)) || undefined, {
      deadlineMs: DEADLINE_MS,
      failure: () => 'something of it is left',
    })
  })
})
