/** What a target's configuration allows commands to ask for. */
import { mkdir, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { destinationRefusal, optionRefusals, userRefusal } from '../../agents/target/allow/allowed.ts'
import type { AllowConfig } from '../../config/schema.ts'
import type { HowdahError } from '../../messages/errors.ts'
import type { Destination } from '../../messages/exports.ts'
import { scratchDirectory } from '../support/scratch.ts'

const NOTHING: AllowConfig = {
  ...{ users: [], settings: [], listen: [], outbound: [], exportDirectories: [], exportHosts: [] },
}

describe('what commands may ask of a target', () => {
  const fields = (options: Parameters<typeof optionRefusals>[0], allow: Partial<AllowConfig> = {}) =>
    optionRefusals(options, { ...NOTHING, ...allow }).map(({ field }) => field)

  it('is its own user, and those that are listed', () => {
    expect(userRefusal('postgres', 'postgres', NOTHING)).to.equal(undefined)
    expect(userRefusal('app', 'postgres', { ...NOTHING, users: ['app'] })).to.equal(undefined)
    const refusal = userRefusal('backup', 'postgres', { ...NOTHING, users: ['app'] })
    expect(refusal).to.include({ code: 'not_allowed', field: 'user' })
    expect(refusal?.message).to.include('"backup"').and.to.include('allow.users')
  })

  it('is to listen on the loopback interface, and on addresses that are listed', () => {
    expect(fields({ listen: ['localhost', '127.0.0.1', '127.3.2.1', '::1'] })).to.deep.equal([])
    for (const address of ['*', '0.0.0.0', '::', '10.0.0.7', 'db-7', '127.example', '127.0.0.1.example'])
      expect(fields({ listen: [address] }), address).to.deep.equal(['listen'])
    expect(fields({ listen: ['10.0.0.7', 'DB-7'] }, { listen: ['10.0.0.7', 'db-7'] })).to.deep.equal([])
    expect(fields({ listen: ['*'] }, { listen: ['10.0.0.7'] })).to.deep.equal(['listen'])
    expect(fields({ listen: ['*', '10.0.0.7'] }, { listen: ['*'] })).to.deep.equal([])
  })

  it('are settings of the instance, and by name those that reach further', () => {
    expect(fields({ settings: { work_mem: '1GB', 'app.note': 'x', log_temp_files: '0' } })).to.deep.equal([])
    const settings = { Shared_Preload_Libraries: 'x', 'plperl.on_init': 'system("id")', log_directory: '/' }
    expect(fields({ settings })).to.have.members(Object.keys(settings).map((name) => `settings.${name}`))
    const allow = { settings: ['shared_preload_libraries', 'PLPERL.on_init'] }
    expect(fields({ settings }, allow)).to.deep.equal(['settings.log_directory'])
    // There is no entry for all of them.
    expect(fields({ settings }, { settings: ['*'] })).to.have.length(3)
  })

  it('are connections to hosts that are listed, with their ports', () => {
    const hosts = (host: string, ...outbound: string[]) => fields({ allowOutbound: [host] }, { outbound })
    expect(hosts('db-1')).to.deep.equal(['allowOutbound'])
    expect(hosts('db-1:5432', 'db-1')).to.deep.equal([])
    expect(hosts('DB-1:5432', 'db-1:5432')).to.deep.equal([])
    expect(hosts('db-1:5433', 'db-1:5432')).to.deep.equal(['allowOutbound'])
    expect(hosts('db-1', 'db-1:5432')).to.deep.equal(['allowOutbound'])
    expect(hosts('[fd00::1]:22', '[fd00::1]')).to.deep.equal([])
    expect(hosts('[fd00::1]:22', '[fd00::1]:23')).to.deep.equal(['allowOutbound'])
    expect(hosts('anything', '*')).to.deep.equal([])
  })
})

describe('where exports may go', () => {
  let directory: string

  beforeEach(async () => {
    directory = await scratchDirectory('howdah-allowed-')
    for (const name of ['rescue/team', 'rescue-2', 'secret'])
      await mkdir(join(directory, name), { recursive: true })
    await symlink(join(directory, 'secret'), join(directory, 'rescue/link'))
    await symlink(join(directory, 'rescue'), join(directory, 'alias'))
  })
  afterEach(() => rm(directory, { recursive: true, force: true }))

  const refusal = (destination: Destination, allow: Partial<AllowConfig>): Promise<HowdahError | undefined> =>
    destinationRefusal(destination, { ...NOTHING, ...allow })
  const to = (path: string, ...allowed: string[]) =>
    refusal(
      { type: 'directory', path: join(directory, '.') + path },
      { exportDirectories: allowed.map((name) => join(directory, name)) },
    )

  it('are no directories by default', async () => {
    const error = await to('/rescue')
    expect(error).to.include({ code: 'not_allowed', field: 'destination.path' })
    expect(error?.message).to.include(`"${directory}/rescue"`).and.to.include('allow.exportDirectories')
  })

  it('are directories that are listed, and those below them', async () => {
    for (const path of ['/rescue', '/rescue/', '/rescue/new', '/rescue/new/deeper', '/rescue/team/../new'])
      expect(await to(path, 'rescue'), path).to.equal(undefined)
  })

  it('are not what dots or symbolic links lead to, nor names that only begin alike', async () => {
    for (const path of ['/rescue/../secret', '/rescue/link', '/rescue/link/new', '/rescue-2', '/secret', ''])
      expect((await to(path, 'rescue'))?.code, path).to.equal('not_allowed')
    expect((await to('/rescue/link/new', 'rescue'))?.message).to.include(`which is ${directory}/secret/new`)
  })

  it('may be listed and given by symbolic links', async () => {
    expect(await to('/rescue/new', 'alias')).to.equal(undefined)
    expect(await to('/alias/new', 'rescue')).to.equal(undefined)
    expect(await refusal({ type: 'directory', path: '/anywhere' }, { exportDirectories: ['/'] })).to.equal(
      undefined,
    )
  })

  it('are hosts that are listed, at the port of the service unless another is named', async () => {
    const sftp = { type: 'sftp', host: 'files-1', path: '/srv' } as const
    const live = { type: 'postgres', host: 'db-1' } as const
    const error = await refusal(sftp, {})
    expect(error).to.include({ code: 'not_allowed', field: 'destination.host' })
    expect(error?.message).to.include('"files-1:22"').and.to.include('allow.exportHosts')
    expect(await refusal(sftp, { exportHosts: ['files-1'] })).to.equal(undefined)
    expect(await refusal(sftp, { exportHosts: ['files-1:22'] })).to.equal(undefined)
    expect((await refusal({ ...sftp, port: 2222 }, { exportHosts: ['files-1:22'] }))?.code).to.equal(
      'not_allowed',
    )
    expect(await refusal(live, { exportHosts: ['DB-1:5432'] })).to.equal(undefined)
    expect((await refusal(live, { exportHosts: ['files-1'] }))?.code).to.equal('not_allowed')
    expect(await refusal(live, { exportHosts: ['*'] })).to.equal(undefined)
  })
})
