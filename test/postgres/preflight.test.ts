import { chmod, chown, lstat, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { summarizeCatalog } from '../../agents/mount/catalog/summary.ts'
import { accessProblem } from '../../agents/target/preflight/access.ts'
import { installedVersions, majorOf } from '../../agents/target/preflight/binaries.ts'
import { preflight } from '../../agents/target/preflight/preflight.ts'
import { prepareSessionDirectories } from '../../agents/target/preflight/session-directories.ts'
import type { PreflightRequest, PreflightSettings } from '../../agents/target/preflight/settings.ts'
import { estimateCacheBytes } from '../../agents/target/preflight/space.ts'
import { freePort } from '../../coordinator/cli/free-port.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { StepInput, TargetOptions } from '../../messages/steps.ts'
import { POSTGRES_BIN, POSTGRES_MAJOR, postgresAccount } from '../support/postgres-cluster.ts'
import { binariesOf, OTHER_MAJORS } from '../support/postgres-majors.ts'

const isRoot = process.geteuid?.() === 0

function inputOf(options: TargetOptions = {}, version = POSTGRES_MAJOR): StepInput {
  return {
    repository: 'main',
    instance: 'shop',
    backup: 'latest',
    recoverTo: { type: 'latest' },
    target: 'local',
    options,
    resolved: {
      backup: { label: 'B', type: 'full', postgresVersion: version },
      totalBytes: 1_000_000,
      fileCount: 1000,
      tablespaces: [],
      dataPlane: { mountAgent: 'local', host: 'localhost', port: 1, ticket: '' },
    },
  }
}

async function failure(attempt: Promise<unknown>): Promise<HowdahError> {
  try {
    await attempt
  } catch (error) {
    if (error instanceof HowdahError) return error
    throw error
  }
  throw new Error('it did not fail')
}

const ALLOW_NOTHING: PreflightSettings['allow'] = {
  ...{ users: [], settings: [], listen: [], outbound: [], exportDirectories: [], exportHosts: [] },
}

describe('Preflight', function () {
  this.timeout(20_000)
  let root: string
  let settings: PreflightSettings
  let user: string
  const servers: Server[] = []

  beforeEach(async () => {
    // Where write caches are by default: /tmp may be in memory, of which preflight warns.
    root = await mkdtemp('/var/tmp/howdah-preflight-test-')
    await chmod(root, 0o711)
    user = (await postgresAccount()).name
    const first = await freePort()
    settings = {
      mountRoot: join(root, 'mounts'),
      cacheRoot: join(root, 'caches'),
      defaultUser: user,
      allow: { ...ALLOW_NOTHING, settings: ['shared_preload_libraries'], users: ['no-such-user', 'root'] },
      portRange: [first, first],
      binaryDirectories: ['/no/such/%v/bin', '/usr/lib/postgresql/%v/bin'],
      reserveBytes: 0,
      minimumFreeBytes: 1024,
    }
  })
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))))
    await rm(root, { recursive: true, force: true })
  })

  const check = (
    changes: Partial<PreflightSettings> = {},
    input = inputOf(),
    reservedPorts = new Set<number>(),
  ) => {
    const request: PreflightRequest = {
      session: 's-1',
      input,
      settings: { ...settings, ...changes },
      reservedPorts,
    }
    return preflight(request)
  }
  async function listen(port: number, host: string): Promise<void> {
    const server = createServer()
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, host, resolve)
    })
    servers.push(server)
  }

  it('returns port, user, executables and paths, and creates the two roots', async () => {
    expect(await check()).to.deep.equal({
      port: settings.portRange[0],
      user,
      binaries: POSTGRES_BIN,
      mountPoint: join(root, 'mounts/s-1'),
      cachePath: join(root, 'caches/s-1'),
      warnings: [],
    })
    for (const made of [settings.mountRoot, settings.cacheRoot]) {
      expect((await lstat(made)).mode & 0o7777).to.equal(0o711)
      expect(await readdir(made)).to.deep.equal([])
    }
  })

  it('reports every check that fails, each with its code', async () => {
    const port = await freePort()
    await listen(port, '127.0.0.1')
    await mkdir(settings.mountRoot, { mode: 0o777 })
    await chmod(settings.mountRoot, 0o777)
    const input = inputOf({ user: 'no-such-user', port }, '11')
    const error = await failure(check({ minimumFreeBytes: 2 ** 60 }, input))
    expect(error.code).to.equal('preflight_failed')
    expect(error.details?.map(({ code }) => code)).to.deep.equal([
      'user_missing',
      'postgres_missing',
      'port_taken',
      'path_unsafe',
      'space_low',
    ])
    for (const { message } of error.details ?? []) expect(error.message).to.include(message)
  })

  it('has the code of the only check that fails', async () => {
    const error = await failure(check({}, inputOf({ user: 'no-such-user' })))
    expect(error.code).to.equal('user_missing')
    expect(error.field).to.equal('user')
    expect(error.details).to.equal(undefined)
  })

  it('refuses root as the user of an instance', async () => {
    expect((await failure(check({}, inputOf({ user: 'root' })))).code).to.equal('user_unusable')
  })

  it("refuses executables of another version than their directory's name", async () => {
    const error = await failure(check({ binaryDirectories: [POSTGRES_BIN] }, inputOf({}, '13')))
    expect(error.code).to.equal('postgres_missing')
    expect(error.message).to.include(`says it is postgres (PostgreSQL) ${POSTGRES_MAJOR}`)
  })

  it('refuses a version that it does not know, and says which it knows', async () => {
    const error = await failure(check({}, inputOf({}, '19')))
    expect(error.code).to.equal('backup_unsupported')
    expect(error.message).to.include('PostgreSQL 19').and.include('9.6 to 18')
  })

  it('refuses a publish that is only for an export where nothing can dump that version', async () => {
    // The newest that the tests have, so the pg_dump of the machine is older.
    const newest = OTHER_MAJORS.at(-1) ?? '18'
    const input = inputOf({}, newest)
    const request = { destination: { type: 'directory' as const, path: '/srv/exports' } }
    const only = { ...input, export: { id: 'e1', request } }
    const binaryDirectories = [binariesOf(newest)]
    const allow = { ...settings.allow, exportDirectories: ['/srv/exports'] }
    const error = await failure(check({ binaryDirectories, allow }, only))
    expect(error.code).to.equal('postgres_missing')
    expect(error.message).to.include(`pg_dump`).and.include(`client programs of PostgreSQL ${newest}`)
    await check({ binaryDirectories, allow }, input)
  })

  it('refuses a requested port that is in use, on IPv4 and on any address', async () => {
    for (const host of ['127.0.0.1', '0.0.0.0']) {
      const port = await freePort()
      await listen(port, host)
      const error = await failure(check({}, inputOf({ port })))
      expect(error.code).to.equal('port_taken')
      expect(error.message).to.include(String(port))
    }
  })

  it('chooses a port that is neither in use nor of another session', async () => {
    const [first] = settings.portRange
    await listen(first, '127.0.0.1')
    const range: [number, number] = [first, first + 20]
    const { port } = await check({ portRange: range })
    expect(port).to.be.greaterThan(first)
    expect((await check({ portRange: range }, inputOf(), new Set([port]))).port).to.be.greaterThan(port)
  })

  it('refuses roots of which one contains the other', async () => {
    const error = await failure(check({ cacheRoot: join(settings.mountRoot, 'caches') }))
    expect(error.code).to.equal('path_unsafe')
  })

  it('refuses a symbolic link planted as the mount root, and leaves its target unchanged', async () => {
    const elsewhere = join(root, 'elsewhere')
    await mkdir(elsewhere)
    await symlink(elsewhere, settings.mountRoot)
    const error = await failure(check())
    expect(error.code).to.equal('path_unsafe')
    expect(error.message).to.include('symbolic link')
    expect(await readdir(elsewhere)).to.deep.equal([])
  })

  it('refuses a root below a directory in which other users may replace entries', async () => {
    await mkdir(join(root, 'open'))
    await chmod(join(root, 'open'), 0o777)
    expect((await failure(check({ cacheRoot: join(root, 'open/caches') }))).code).to.equal('path_unsafe')
    await chmod(join(root, 'open'), 0o1777)
    await check({ cacheRoot: join(root, 'open/caches') })
  })

  it('refuses a root that belongs to another user', async function () {
    if (!isRoot) return this.skip()
    await mkdir(settings.cacheRoot)
    await chown(settings.cacheRoot, 65534, 65534)
    expect((await failure(check())).message).to.include('belongs to uid 65534')
  })

  it('refuses a root that the user of the instance cannot reach', async function () {
    if (!isRoot) return this.skip()
    await chmod(root, 0o700)
    const error = await failure(check())
    expect(error.message).to.include(`"${user}" may not enter ${root}`)
  })

  it('tests as the user of the instance whether it can use the directories', async function () {
    if (!isRoot) return this.skip()
    const account = await postgresAccount()
    const roots = { cacheRoot: settings.cacheRoot, mountRoot: settings.mountRoot }
    await check()
    expect(await accessProblem(roots, account)).to.equal(undefined)
    await chmod(settings.mountRoot, 0o700)
    expect(await accessProblem(roots, account)).to.match(/cannot work in .*(denied|can't cd)/i)
    expect(await readdir(settings.cacheRoot)).to.deep.equal([])
  })

  it('refuses what its configuration does not allow, all at once, and looks up no user for it', async () => {
    const asked = {
      user: 'no-such-user',
      listen: ['localhost', '127.0.0.5', '*'],
      settings: { work_mem: '4MB', Session_Preload_Libraries: 'auto_explain' },
      allowOutbound: ['db-1:5432'],
    }
    const error = await failure(check({ allow: ALLOW_NOTHING }, inputOf(asked)))
    expect(error.code).to.equal('preflight_failed')
    const findings = error.details?.map(({ code, field }) => [code, field])
    expect(findings).to.deep.equal([
      ['not_allowed', 'user'],
      ['not_allowed', 'settings.Session_Preload_Libraries'],
      ['not_allowed', 'listen'],
      ['not_allowed', 'allowOutbound'],
    ])
    const messages = error.details?.map(({ message }) => message) ?? []
    for (const [index, [value, key]] of [
      ['no-such-user', 'users'],
      ['session_preload_libraries', 'settings'],
      ['*', 'listen'],
      ['db-1:5432', 'outbound'],
    ].entries()) {
      expect(messages[index]).to.include(`"${value}"`).and.to.include(`allow.${key}`)
    }
  })

  it('takes what its configuration allows', async () => {
    const asked = {
      listen: ['*'],
      settings: { session_preload_libraries: 'auto_explain' },
      allowOutbound: ['db-1:5432'],
    }
    const allow = {
      ...ALLOW_NOTHING,
      ...{ listen: ['*'], settings: ['session_preload_libraries'], outbound: ['db-1'] },
    }
    expect((await check({ allow }, inputOf(asked))).user).to.equal(user)
  })

  it('refuses libraries that the user requests and the target does not have', async () => {
    const given = { shared_preload_libraries: 'auto_explain,no_such_library' }
    const error = await failure(check({}, inputOf({ settings: given })))
    expect(error).to.include({ code: 'configuration', field: 'settings.shared_preload_libraries' })
    expect(error.message).to.include('no_such_library')
    await check({}, inputOf({ settings: { shared_preload_libraries: 'auto_explain' } }))
  })

  it('refuses an extension that owns the data and that the target does not have, before anything is mounted', async () => {
    const input = inputOf()
    const needs = (extensions: string[]) => ({
      ...input,
      ...(input.resolved && {
        resolved: { ...input.resolved, catalog: summarizeCatalog([{ name: 'shop', extensions }]) },
      }),
    })
    expect((await failure(check({}, needs(['timescaledb'])))).code).to.equal('library_missing')
    expect((await check({}, needs(['no_such_extension']))).warnings.join()).to.include('no_such_extension')
  })

  it('refuses a preloaded library that owns data and that the target does not have, though no extension tells', async () => {
    const input = inputOf()
    const preloads = (preloadedLibraries: string[], settings?: Record<string, string>) => ({
      ...input,
      options: { ...input.options, ...(settings && { settings }) },
      ...(input.resolved && { resolved: { ...input.resolved, preloadedLibraries } }),
    })
    const error = await failure(check({}, preloads(['auto_explain', '$libdir/orioledb'])))
    expect(error).to.include({ code: 'library_missing' })
    expect(error.message).to.include('orioledb')
    await check({}, preloads(['auto_explain', 'no_such_library']))
    await check({}, preloads(['orioledb'], { shared_preload_libraries: '' }))
  })

  it('reports how much space is needed and how much is free', async () => {
    const error = await failure(check({ minimumFreeBytes: 2 ** 60 }))
    expect(error.code).to.equal('space_low')
    expect(error.message).to.match(/needs about 1153 PB.*only \d+(\.\d)? [kMGT]?B are free/)
  })

  it('refuses a cache root too long for a socket', async () => {
    const long = join(root, 'x'.repeat(100))
    expect((await failure(check({ cacheRoot: long }))).message).to.include('longer than the 107 bytes')
  })
})

describe('The directories of a session', () => {
  let root: string
  const made = () => ({ mountPoint: join(root, 'mount'), cachePath: join(root, 'cache'), uid: 0, gid: 0 })

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'howdah-directories-test-'))
  })
  afterEach(() => rm(root, { recursive: true, force: true }))

  it('are created once and left unchanged afterwards', async () => {
    const { uid, gid } = await postgresAccount()
    const directories = { ...made(), uid, gid }
    await prepareSessionDirectories(directories)
    await writeFile(join(root, 'cache/run/kept'), '')
    await prepareSessionDirectories(directories)
    const run = await lstat(join(root, 'cache/run'))
    expect([run.uid, run.mode & 0o7777]).to.deep.equal([uid, 0o700])
    expect((await lstat(join(root, 'cache'))).mode & 0o7777).to.equal(0o711)
    expect((await lstat(join(root, 'mount'))).mode & 0o7777).to.equal(0o700)
    const names = ['conf', 'log', 'pg_wal', 'ready_wal', 'run']
    expect(await readdir(join(root, 'cache'))).to.have.members(names)
    expect(await readdir(join(root, 'cache/run'))).to.deep.equal(['kept'])
  })

  it('are refused if something else is in their place', async () => {
    await symlink('/etc', join(root, 'cache'))
    const error = await failure(prepareSessionDirectories({ ...made(), ...(await postgresAccount()) }))
    expect(error.code).to.equal('path_unsafe')
  })
})

describe('Preflight estimates and versions', () => {
  it('include WAL, files and a hundredth of the backup', () => {
    const size = { totalBytes: 100e9, fileCount: 100_000, walBytes: 16e6 }
    expect(estimateCacheBytes(size, 0)).to.equal(64 * 1024 ** 2 + 16e6 + 102_400_000 + 1e9)
    expect(estimateCacheBytes({ totalBytes: 0, fileCount: 0, walBytes: 0 }, 5e9)).to.equal(5e9)
  })

  it('find the version of every server, also in a directory without a version in its name', async () => {
    const plain = binariesOf('18')
    expect(await installedVersions([plain])).to.deep.equal(['18'])
    const places = [POSTGRES_BIN.replace(POSTGRES_MAJOR, '%v'), plain, '/no/such']
    expect(await installedVersions(places)).to.include.members([POSTGRES_MAJOR, '18'])
  })

  it('read the major version of postgres --version', () => {
    expect(majorOf('postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)')).to.equal('15')
    expect(majorOf('postgres (PostgreSQL) 9.6.24')).to.equal('9.6')
    expect(majorOf('postgres (PostgreSQL) 18beta1')).to.equal('18')
  })
})
