import { readdirSync } from 'node:fs'
import { chmod, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { instanceSettings, postgresArguments } from '../../agents/target/postgres/settings/configuration.ts'
import { settingLines } from '../../agents/target/postgres/settings/configuration-file.ts'
import {
  findRefusals,
  problemOfSettings,
  settingsProblem,
} from '../../agents/target/postgres/settings/settings-trial.ts'
import type { InstanceSpec } from '../../agents/target/postgres/specification.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { everyMajor } from '../support/postgres-majors.ts'
import { scratchDirectory } from '../support/scratch.ts'

describe('Settings that are validated on this machine', function () {
  this.timeout(30_000)
  let directory: string

  before(async () => {
    directory = await scratchDirectory('howdah-settings-trial-')
    await chmod(directory, 0o755)
  })
  after(() => rm(directory, { recursive: true, force: true }))

  for (const { version, binaries } of everyMajor())
    it(`are Howdah's own, all of which PostgreSQL ${version} accepts`, async () => {
      const configFile = join(directory, 'given.conf')
      const spec: InstanceSpec = {
        session: 'shop-1',
        mountPoint: '/nowhere',
        cachePath: '/nowhere',
        binaries,
        version,
        user: await postgresAccount(),
        port: 54321,
        recoverTo: { type: 'time', value: '2026-01-02 03:04:05+00' },
      }
      const { fixed, given } = instanceSettings({
        spec,
        backup: new Map(),
        control: { limits: {}, walSegmentBytes: 16 * 1024 ** 2 },
        memory: { total: 2 ** 34, freeHugePages: 0 },
        preload: new Map([['shared_preload_libraries', '']]),
        recovered: true,
      })
      await writeFile(configFile, settingLines(given))
      const placed = new Map([...fixed, ['config_file', configFile], ['data_directory', '/']])
      const args = postgresArguments(spec, placed).map((arg, index) => (index === 1 ? '/' : arg))
      expect(await settingsProblem(args, spec)).to.equal(undefined)
      const wrong = await settingsProblem([...args, '-c', 'work_mem=plenty'], spec)
      expect(wrong).to.match(/^invalid value for parameter "work_mem": "plenty"$/)
    })

  it('that PostgreSQL rejects are found by bisection, each with its reason', async () => {
    const names = Array.from({ length: 64 }, (_, number) => `s${number}`)
    const wrong = new Set(['s3', 's40'])
    let tries = 0
    const refusals = await findRefusals(names, async (some) => {
      tries++
      const bad = some.filter((name) => wrong.has(name))
      return bad.length > 0 ? bad.join() : undefined
    })
    expect(refusals).to.deep.equal([
      { name: 's3', reason: 's3' },
      { name: 's40', reason: 's40' },
    ])
    expect(tries).to.be.lessThan(30)
  })

  for (const { version, binaries } of everyMajor())
    it(`are those of a user, for PostgreSQL ${version} in a file that has no name`, async () => {
      const trial = { binaries, user: await postgresAccount() }
      const problem = (settings: Record<string, string>) =>
        problemOfSettings(new Map(Object.entries(settings)), trial)
      expect(await problem({ work_mem: '11MB', 'app.note': "it's \\ mine" })).to.equal(undefined)
      expect(await problem({ work_mem: 'plenty' })).to.equal(
        'invalid value for parameter "work_mem": "plenty"',
      )
      expect(await problem({ no_such_setting: 'x' })).to.equal(
        'unrecognized configuration parameter "no_such_setting"',
      )
      expect(readdirSync(tmpdir()).filter((name) => /^howdah-[0-9a-f]{8}-[0-9a-f-]{27}$/.test(name))).to.be
        .empty
    })

  it('are not considered invalid if the program cannot be run', async () => {
    const user = await postgresAccount()
    const tried = settingsProblem([], { binaries: directory, user }).then(
      () => 'taken',
      (error: { code: string }) => error.code,
    )
    expect(await tried).to.equal('postgres_failed')
  })
})
