/**
 * Owns the bundles that tests install. A bundle is made once for a state of the sources and kept for the next run, in
 * /var/cache/howdah-test/bundles.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { globSync, readFileSync, statSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const CHECKOUT = path.resolve(import.meta.dirname, '../..')
export const BUNDLES = '/var/cache/howdah-test/bundles'
const SOURCES = '{agents,config,coordinator,messages,bin}/**/*'
const OTHERS = [
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'tsconfig.build.json',
  'README.md',
  'LICENSE',
]
/** Of its files, in seconds: not that of the commit, which may be another with the same sources. */
export const BUNDLE_TIME = '1767225600'
/** For another lane that makes it. */
const WAIT_SECONDS = 120
/** Older ones belong to no run that is under way. */
const KEEP_MS = 6 * 3_600_000

export interface Bundle {
  readonly version: string
  readonly file: string
  readonly sha256: string
  /** The Debian package of the same version. */
  readonly debianPackage: string
}

/** The bundle of the checkout as it is, under a version of the test's choice. */
export async function testBundle(version: string): Promise<Bundle> {
  const directory = path.join(BUNDLES, `${digestOfSources()}-${version}`)
  const file = path.join(directory, `howdah-${version}-linux-x64.tar.gz`)
  if (!isThere(file)) await makeBundle(directory, version)
  const [sha256 = ''] = (await readFile(`${file}.sha256`, 'utf8')).split(' ')
  return { version, file, sha256, debianPackage: path.join(directory, `howdah_${version}_amd64.deb`) }
}

async function makeBundle(directory: string, version: string): Promise<void> {
  await mkdir(BUNDLES, { recursive: true })
  for (const old of globSync(`${BUNDLES}/*`))
    if (Date.now() - (statSync(old, { throwIfNoEntry: false })?.mtimeMs ?? 0) > KEEP_MS)
      await rm(old, { recursive: true, force: true })
  const partial = await mkdtemp(path.join(BUNDLES, 'partial-'))
  const script = path.join(CHECKOUT, 'bin/bundle')
  // One at a time: of lanes that need the same one, one makes it and the others wait.
  const make = 'test -e "$1" || { sh "$2" --version "$3" --directory "$4" && mv "$4" "$1"; }'
  try {
    await run(
      'flock',
      [
        ...['--wait', String(WAIT_SECONDS), path.join(BUNDLES, '.lock'), 'sh', '-c', make],
        ...['sh', directory, script, version, partial],
      ],
      { env: { ...process.env, SOURCE_DATE_EPOCH: BUNDLE_TIME } },
    )
  } finally {
    await rm(partial, { recursive: true, force: true })
  }
}

function digestOfSources(): string {
  const hash = createHash('sha256')
  for (const name of [...globSync(SOURCES, { cwd: CHECKOUT }).sort(), ...OTHERS]) {
    const file = path.join(CHECKOUT, name)
    if (statSync(file).isFile()) hash.update(`${name}\n`).update(readFileSync(file))
  }
  return hash.digest('hex').slice(0, 16)
}

function isThere(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false }) !== undefined
}
