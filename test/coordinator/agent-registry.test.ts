import { expect } from 'chai'
import { type AgentRegistry, openAgentRegistry } from '../../coordinator/agent-registry.ts'
import { openSqliteStore } from '../../coordinator/store/sqlite.ts'
import type { Store } from '../../coordinator/store/store.ts'
import type { AgentView } from '../../messages/values.ts'

const START = Date.parse('2026-11-22T06:00:00Z')
const LOST_AFTER_MS = 30_000

const mount: AgentView = {
  kind: 'mount',
  name: 'backup-1',
  online: true,
  lastSeen: '2026-11-22T05:00:00.000Z',
  version: '0.1.0',
  contract: { oldest: 2, newest: 2 },
  host: 'backup-1.example',
  repositories: [{ name: 'main', format: 'pgbackrest' }],
}
const target: AgentView = { ...mount, kind: 'target', name: 'db-7', host: 'db-7.example', repositories: [] }

describe('the agent registry', () => {
  let store: Store
  let registry: AgentRegistry
  let time: number
  let listeningSince: number | undefined
  const open = (): Promise<AgentRegistry> =>
    openAgentRegistry({
      store,
      lostAfterMs: LOST_AFTER_MS,
      listeningSince: () => listeningSince,
      now: () => time,
    })

  beforeEach(async () => {
    time = START
    listeningSince = START
    store = await openSqliteStore(':memory:')
    registry = await open()
  })

  afterEach(() => store.close())

  function refusal(look: () => AgentView): { code?: string; message?: string } {
    try {
      look()
    } catch (error) {
      return error as { code: string; message: string }
    }
    return {}
  }

  it('finds the mount agent of a repository, and lists the known repositories for an unknown one', async () => {
    await registry.online(mount)
    expect(registry.forRepository('main')).to.include({ name: 'backup-1', online: true })
    const { code, message } = refusal(() => registry.forRepository('mian'))
    expect(code).to.equal('unknown_repository')
    expect(message).to.include('there are: main')
  })

  it('prefers an agent that is online where several serve the same repository', async () => {
    await registry.online(mount)
    await registry.online({ ...mount, name: 'backup-2' })
    await registry.offline('mount', 'backup-1')
    expect(registry.forRepository('main')).to.include({ name: 'backup-2' })
  })

  it('counts an agent as offline once heartbeats are missing', async () => {
    await registry.online(target)
    time += LOST_AFTER_MS - 1
    expect(registry.isOnline(target)).to.equal(true)
    time += 1
    expect(registry.isOnline(target)).to.equal(false)
    expect(refusal(() => registry.target('db-7')).code).to.equal('agent_offline')
  })

  it('counts agents as online after a restart until a heartbeat is missed', async () => {
    await registry.online(target)
    time += 10 * LOST_AFTER_MS
    listeningSince = time
    const restarted = await open()
    expect(restarted.isOnline(target)).to.equal(true)
    time += LOST_AFTER_MS
    expect(restarted.isOnline(target)).to.equal(false)
  })

  it('does not count heartbeats as missed while the broker is away', async () => {
    await registry.online(target)
    listeningSince = undefined
    time += 10 * LOST_AFTER_MS
    expect(registry.isOnline(target)).to.equal(true)
    listeningSince = time
    time += LOST_AFTER_MS - 1
    expect(registry.isOnline(target)).to.equal(true)
    time += 1
    expect(registry.isOnline(target)).to.equal(false)
  })

  it('remembers after a restart that an agent shut down', async () => {
    await registry.online(target)
    time += 1000
    await registry.offline('target', 'db-7')
    expect((await open()).isOnline(target)).to.equal(false)
  })

  it('learns from the store which agents another coordinator saw', async () => {
    const other = await open()
    await other.online(target)
    expect(registry.isOnline(target)).to.equal(false)
    await registry.refresh()
    expect(registry.isOnline(target)).to.equal(true)
    time += 1000
    await other.offline('target', 'db-7')
    await registry.refresh()
    expect(registry.isOnline(target)).to.equal(false)
  })

  describe('with an agent of another release', () => {
    const { contract: _, ...unversioned } = target

    it('lists it, and refuses it by name for what it cannot do', async () => {
      await registry.online(unversioned)
      expect(registry.list()).to.have.length(1)
      expect(refusal(() => registry.target('db-7'))).to.deep.include({
        code: 'agent_incompatible',
        message:
          'the target agent "db-7" on db-7.example runs Howdah 0.1.0 with contract 1; this needs 2: upgrade the agent',
      })
      expect(registry.obstacle(target)).to.include({ code: 'agent_incompatible' })
      await registry.online(target)
      expect(registry.target('db-7')).to.include({ name: 'db-7' })
      expect(registry.obstacle(target)).to.equal(undefined)
    })

    it('takes another one that serves the same repository', async () => {
      await registry.online({ ...mount, contract: { oldest: 1, newest: 1 } })
      await registry.online({ ...mount, name: 'backup-2' })
      expect(registry.forRepository('main')).to.include({ name: 'backup-2' })
    })
  })
})
