import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { isMounted } from '../../agents/target/filesystem/drivers/mount-table.ts'
import { mountProcessesOf } from '../../agents/target/mount-process/agent/mount-process.ts'
import type { Finding } from '../../agents/target/preflight/settings.ts'
import { removeStaleTrials, trialName } from '../../agents/target/trial-mount/trial-mount.ts'
import { type Account, postgresAccount } from '../support/postgres-cluster.ts'

const CHILD = fileURLToPath(new URL('./trial-mount-child.ts', import.meta.url))

describe('A trial mount', function () {
  this.timeout(30_000)
  let directory: string
  let roots: { mountRoot: string; cacheRoot: string }
  let account: Account
  const session = trialName('0123456789ab')

  before(async () => {
    account = await postgresAccount()
    directory = mkdtempSync(path.join(tmpdir(), 'howdah-trial-'))
    chmodSync(directory, 0o755)
    roots = { mountRoot: path.join(directory, 'mnt'), cacheRoot: path.join(directory, 'cache') }
    for (const root of Object.values(roots)) mkdirSync(root)
  })

  after(() => rmSync(directory, { recursive: true, force: true }))

  const launch = (user: object, ...before: string[]) => {
    const [program = '', ...args] = [...before, process.execPath, CHILD]
    const trial = { session, ...roots }
    return spawn(program, [...args, JSON.stringify(trial), JSON.stringify(user)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
  }

  const findings = async (user: object, ...before: string[]): Promise<Finding[]> =>
    JSON.parse(await text(launch(user, ...before).stdout)) as Finding[]

  const left = (): string[] => Object.values(roots).flatMap((root) => readdirSync(root))

  it('has no findings if the user can use it, and leaves nothing behind', async () => {
    expect(await findings(account)).to.deep.equal([])
    expect(left()).to.deep.equal([])
  })

  it('finds that an agent may not mount, although it is root and can open the device', async () => {
    const [finding, ...more] = await findings(account, 'setpriv', '--bounding-set=-sys_admin')
    expect(more).to.deep.equal([])
    expect(finding).to.include({ code: 'fuse_unusable' })
    expect(left()).to.deep.equal([])
  })

  it('finds that the user has no access to it, with the reason', async () => {
    chmodSync(roots.mountRoot, 0o700)
    const [finding, ...more] = await findings(account)
    chmodSync(roots.mountRoot, 0o755)
    expect(more).to.deep.equal([])
    expect(finding).to.include({ code: 'user_unusable', field: 'user' })
    expect(finding?.message).to.include('Permission denied')
    expect(left()).to.deep.equal([])
  })

  it('is removed by the next agent process when its own was killed', async () => {
    const agent = launch(account)
    const places = {
      session,
      mountPoint: `${roots.mountRoot}/${session}`,
      cachePath: `${roots.cacheRoot}/${session}`,
    }
    while (!isMounted(places.mountPoint)) await sleep(5)
    agent.kill('SIGKILL')
    await once(agent, 'exit')
    await removeStaleTrials(roots)
    expect(left()).to.deep.equal([])
    expect(mountProcessesOf(places)).to.deep.equal([])
  })
})
