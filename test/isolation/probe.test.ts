import { existsSync, mkdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { makeCgroup, ownCgroup } from '../../agents/target/isolation/cgroup.ts'
import { networkRules, tableName } from '../../agents/target/isolation/network-rules.ts'
import { applyRules, listTables } from '../../agents/target/isolation/nft.ts'
import { probeIsolation } from '../../agents/target/isolation/probe.ts'
import { probeName, removeStaleProbes } from '../../agents/target/isolation/stale-probes.ts'

/** Above any pid_max that tests run with (proc(5)). */
const GONE = 4_194_305

describe('the probe of isolation', () => {
  let directory: string

  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'howdah-probe-'))
  })
  afterEach(() => rm(directory, { recursive: true, force: true }))

  it('finds both mechanisms on this machine, and leaves nothing', async () => {
    const name = probeName(process.pid)
    const support = await probeIsolation({ name, directory, fileSystem: true, network: true })
    expect(support).to.deep.equal({ fileSystem: { available: true }, network: { available: true } })
    expect(existsSync(path.join(directory, name))).to.equal(false)
    expect(await listTables()).not.to.include(tableName(name))
    expect(existsSync(`${ownCgroup()?.directory}/howdah-${name}`)).to.equal(false)
  })

  it('says that the configuration switches a mechanism off', async () => {
    const support = await probeIsolation({ name: 'trial-off', directory, fileSystem: false, network: false })
    expect(support.network).to.have.property('reason').that.includes('configuration')
  })

  it('is cleaned up by the next agent when an agent was killed in the middle of it', async () => {
    const name = probeName(GONE)
    mkdirSync(path.join(directory, name, 'mount'), { recursive: true })
    const cgroup = makeCgroup(`howdah-${name}`, ownCgroup() ?? expect.fail('no control groups'))
    await applyRules(networkRules({ session: name, cgroup, outbound: [] }))
    mkdirSync(path.join(directory, probeName(process.pid)))
    await removeStaleProbes(directory)
    expect(existsSync(path.join(directory, name))).to.equal(false)
    expect(existsSync(cgroup.directory)).to.equal(false)
    expect(await listTables()).not.to.include(tableName(name))
    expect(existsSync(path.join(directory, probeName(process.pid)))).to.equal(true)
  })
})
