/**
 * Runs PostgreSQL's own regression suite on a published instance. Server, psql, pg_regress and the suite are of one minor
 * version, from the packages and the source package of Debian's archive: a suite of another minor version has other results.
 */
import { execFile } from 'node:child_process'
import {
  chmod,
  chown,
  copyFile,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  writeFile,
} from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { startFleet } from '../support/fleet.ts'
import { POSTGRES_BIN, postgresAccount } from '../support/postgres-cluster.ts'
import { makeProduction } from '../support/production.ts'

const SOURCES = '/etc/apt/sources.list.d/debian.sources'
const LONGEST = 30 * 60_000
const run = promisify(execFile)
const major = /\/(\d+)\/bin$/.exec(POSTGRES_BIN)?.[1] ?? ''

export interface RegressionOutcome {
  readonly version: string
  readonly passed: boolean
  /** What pg_regress printed; after a failure followed by the differences. */
  readonly output: string
}

/** @throws Error when the packages cannot be had, or the instance cannot be published */
export async function runRegression(log: (text: string) => void): Promise<RegressionOutcome> {
  const directory = await mkdtemp('/var/tmp/howdah-regression-')
  await chmod(directory, 0o755)
  try {
    const suite = await fetchSuite(directory)
    log(`the suite and the programs of ${suite.version}`)
    return await runOnInstance(directory, suite)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

interface Suite {
  readonly version: string
  readonly binaries: string
  readonly pgRegress: string
  /** src/test/regress of the sources. */
  readonly input: string
  /** Directory of the libraries that the suite loads. */
  readonly libraries: string
}

/** The newest version of which the archive has both packages and sources. */
async function fetchSuite(directory: string): Promise<Suite> {
  const apt = await isolatedApt(directory)
  const { stdout } = await run('apt-cache', [...apt, 'madison', `postgresql-${major}`])
  const versions = [...new Set(stdout.split('\n').map((line) => line.split('|')[1]?.trim() ?? ''))]
  for (const version of versions.filter((each) => each !== '')) {
    const of = path.join(directory, version)
    await mkdir(of)
    const packages = ['postgresql', 'postgresql-client', 'postgresql-server-dev']
    const wanted = packages.map((name) => `${name}-${major}=${version}`)
    try {
      await run('apt-get', [...apt, 'download', ...wanted], { cwd: of })
      const source = ['source', '--download-only', `postgresql-${major}=${version}`]
      await run('apt-get', [...apt, ...source], { cwd: of })
      return await unpack(of, version)
    } catch (error) {
      // The archive of a security update may have no sources yet.
      if (version === versions.findLast((each) => each !== '')) throw error
    }
  }
  throw new Error(`the archive has no postgresql-${major}`)
}

/** Options of apt with lists of its own: the machine's sources, and the same for source packages. */
async function isolatedApt(directory: string): Promise<string[]> {
  const lists = path.join(directory, 'apt')
  await mkdir(path.join(lists, 'parts'), { recursive: true })
  await mkdir(path.join(lists, 'lists/partial'), { recursive: true })
  const text = (await readFile(SOURCES, 'utf8')).replaceAll(/^Types:.*$/gm, 'Types: deb deb-src')
  await writeFile(path.join(lists, 'parts/debian.sources'), text)
  const settings = {
    'Dir::Etc::SourceList': '/dev/null',
    'Dir::Etc::SourceParts': path.join(lists, 'parts'),
    'Dir::State::Lists': path.join(lists, 'lists'),
    'APT::Sandbox::User': 'root',
  }
  const options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  await run('apt-get', [...options, '-qq', 'update'])
  return options
}

async function unpack(directory: string, version: string): Promise<Suite> {
  const names = await readdir(directory)
  const root = path.join(directory, 'root')
  for (const name of names.filter((each) => each.endsWith('.deb'))) {
    await run('dpkg', ['-x', path.join(directory, name), root])
  }
  const archive = names.find((each) => /\.orig\.tar\.\w+$/.test(each)) ?? ''
  const sources = path.join(directory, 'sources')
  await mkdir(sources)
  await run('tar', ['-xf', path.join(directory, archive), '-C', sources, '--strip-components=1'])
  const installed = path.join(root, 'usr/lib/postgresql', major)
  const libraries = path.join(directory, 'libraries')
  await mkdir(libraries)
  for (const name of ['autoinc.so', 'refint.so']) {
    await copyFile(path.join(installed, 'lib', name), path.join(libraries, name))
  }
  const input = path.join(sources, 'src/test/regress')
  const include = path.join(root, 'usr/include/postgresql', major, 'server')
  const compiled = ['-o', path.join(libraries, 'regress.so'), path.join(input, 'regress.c')]
  await run('cc', ['-O2', '-fPIC', '-shared', `-I${include}`, ...compiled])
  return {
    version,
    binaries: path.join(installed, 'bin'),
    pgRegress: path.join(installed, 'lib/pgxs/src/test/regress/pg_regress'),
    input,
    libraries,
  }
}

async function runOnInstance(directory: string, suite: Suite): Promise<RegressionOutcome> {
  const account = await postgresAccount()
  const production = await makeProduction({ scale: 1, tablespace: false })
  const output = path.join(directory, 'output')
  await mkdir(output)
  // The suite writes beside its sources, too.
  await cp(suite.input, path.join(directory, 'input'), { recursive: true })
  for (const each of [output, path.join(directory, 'input')]) await chownAll(each, account)
  try {
    await production.backup('full')
    const fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
      target: {
        postgres: { binaryDirectories: [suite.binaries] },
        isolation: { readable: [directory], writable: [output, path.join(directory, 'input')] },
      },
    })
    try {
      const session = await fleet.publish('--repository', 'main', '--instance', production.stanza)
      const { socketDirectory = '', port = 0 } = session.connection ?? {}
      const input = path.join(directory, 'input')
      const args = [
        ...[`--bindir=${suite.binaries}`, `--dlpath=${suite.libraries}`, '--max-connections=10'],
        ...[`--inputdir=${input}`, `--outputdir=${output}`, `--schedule=${input}/parallel_schedule`],
        ...[`--host=${socketDirectory}`, `--port=${port}`, '--user=postgres', '--dbname=regression'],
      ]
      const options = { cwd: output, uid: account.uid, gid: account.gid, timeout: LONGEST }
      const result = await run(suite.pgRegress, args, { ...options, maxBuffer: 64 * 1024 ** 2 }).then(
        ({ stdout }) => ({ passed: true, text: stdout }),
        (error: { stdout?: string; message: string }) => ({
          passed: false,
          text: error.stdout ?? error.message,
        }),
      )
      const differences = result.passed
        ? ''
        : await readFile(`${output}/regression.diffs`, 'utf8').catch(String)
      return { version: suite.version, passed: result.passed, output: `${result.text}\n${differences}` }
    } finally {
      await fleet.remove()
    }
  } finally {
    await production.remove()
  }
}

async function chownAll(root: string, { uid, gid }: { uid: number; gid: number }): Promise<void> {
  await chown(root, uid, gid)
  for (const entry of await readdir(root, { recursive: true })) await chown(path.join(root, entry), uid, gid)
}
