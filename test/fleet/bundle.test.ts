/** The bundle: complete without anything that is installed, free of what is not needed, and the same bytes each time. */
import { execFile } from 'node:child_process'
import { globSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { BUNDLE_TIME, type Bundle, testBundle } from '../support/bundle.ts'
import { scratchDirectory } from '../support/scratch.ts'

const run = promisify(execFile)
const CHECKOUT = path.resolve(import.meta.dirname, '../..')
const VERSION = '9.0.0'
const MIB = 1024 ** 2
/** Nothing but the bundle can be found by its name. */
const BARE = { PATH: '/usr/bin:/bin' }
const LOAD_ALL = `
  import { globSync } from 'node:fs'
  const programs = /(^|\\/)(main|asyncapi-main|[a-z0-9]+-(thread|worker))\\.js$/
  const modules = globSync('dist/**/*.js').filter((file) => !programs.test(file))
  for (const file of modules) await import(process.cwd() + '/' + file)
  console.log(modules.length)
  process.exit(0)
`

describe('the bundle', function () {
  this.timeout(240_000)
  let bundle: Bundle
  let scratch: string
  let tree: string

  before(async () => {
    bundle = await testBundle(VERSION)
    scratch = await scratchDirectory('howdah-bundle-')
    await run('tar', ['-C', scratch, '-xzf', bundle.file])
    tree = path.join(scratch, `howdah-${VERSION}`)
  })
  after(() => rmSync(scratch, { recursive: true, force: true }))

  it('runs with its own Node.js, without npm and without packages of the machine', async () => {
    const { stdout } = await run(path.join(tree, 'bin/howdah'), ['--version'], { env: BARE })
    expect(stdout).to.equal(`howdah ${VERSION}\n`)
    const loaded = await run(path.join(tree, 'bin/node'), ['--input-type=module', '--eval', LOAD_ALL], {
      cwd: tree,
      env: BARE,
    })
    expect(Number(loaded.stdout)).to.be.greaterThan(300)
    const addons = globSync('node_modules/**/*.node', { cwd: tree })
    expect(addons).to.have.lengthOf(2)
    for (const addon of addons)
      await run(path.join(tree, 'bin/node'), ['-e', `require('./${addon}')`], { cwd: tree, env: BARE })
  })

  it('runs each role with its own Node.js, whatever node is on the PATH', async () => {
    const directory = path.join(scratch, 'other-node')
    mkdirSync(directory)
    writeFileSync(path.join(directory, 'node'), '#!/bin/sh\nexit 9\n', { mode: 0o755 })
    for (const role of ['coordinator', 'mount-agent', 'target-agent']) {
      const env = { PATH: `${directory}:${BARE.PATH}` }
      const { stdout } = await run(path.join(tree, 'bin/howdah'), [role, '--help'], { env })
      expect(stdout).to.include(`howdah ${role}`)
    }
  })

  it('has the packages for production only, each with its licence, and nothing of its own tests', async () => {
    const lock = JSON.parse(readFileSync(path.join(CHECKOUT, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { dev?: boolean }>
    }
    const packages = globSync(['node_modules/*/package.json', 'node_modules/@*/*/package.json'], {
      cwd: tree,
    })
    const development = packages.filter((file) => lock.packages[path.dirname(file)]?.dev !== undefined)
    expect(development).to.deep.equal([])
    expect(packages.length).to.be.greaterThan(50)
    expect(
      globSync(['**/*.test.*', '**/*.map', '**/*.d.ts', 'node_modules/*/{test,docs}'], { cwd: tree }),
    ).to.deep.equal([])
    expect(readdirSync(tree).sort()).to.deep.equal([
      'LICENSE',
      'README.md',
      'bin',
      'config',
      'dist',
      'man',
      'node_modules',
      'package.json',
    ])
  })

  it('is smaller than 60 MiB, and its hash lies beside it', async () => {
    expect(readFileSync(bundle.file).length).to.be.lessThan(60 * MIB)
    await run('sha256sum', ['--check', '--status', `${bundle.file}.sha256`], {
      cwd: path.dirname(bundle.file),
    })
  })

  it('is the same bytes each time, whoever makes it and when', async () => {
    const [again, temporary] = [path.join(scratch, 'again'), path.join(scratch, 'temporary')]
    for (const directory of [again, temporary]) mkdirSync(directory)
    const script = `umask 077; exec sh ${CHECKOUT}/bin/bundle --version ${VERSION} --directory ${again}`
    await run('sh', ['-c', script], {
      cwd: '/',
      env: {
        ...process.env,
        TMPDIR: temporary,
        TZ: 'Asia/Tokyo',
        LC_ALL: 'C.UTF-8',
        SOURCE_DATE_EPOCH: BUNDLE_TIME,
      },
    })
    for (const file of [bundle.file, bundle.debianPackage])
      expect(readFileSync(file).equals(readFileSync(path.join(again, path.basename(file)))), file).to.equal(
        true,
      )
    expect(readdirSync(temporary)).to.deep.equal([])
  })

  it('refuses a version that is no name of a directory or of a Debian package', async () => {
    for (const version of ['v1.0.0', '1.0/0', '1.0 0', '1-0']) {
      const refused = await run('sh', [`${CHECKOUT}/bin/bundle`, '--version', version]).then(
        () => undefined,
        (error: { code: number }) => error.code,
      )
      expect(refused, version).to.equal(2)
    }
  })
})
