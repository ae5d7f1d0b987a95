/** The launcher: how it finds the program and Node from any directory. */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'

const LAUNCHER = path.resolve(import.meta.dirname, '../../bin/howdah')

describe('the launcher', function () {
  this.timeout(20_000)
  let directory: string

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'howdah-launcher-'))
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  function start(file: string, args: string[], env: NodeJS.ProcessEnv = process.env) {
    const { status, stdout, stderr } = spawnSync(file, args, { cwd: '/', env, encoding: 'utf8' })
    return { status, stdout, stderr }
  }

  /** An installed package: no sources, a main that prints its arguments, and Node where the test puts it. */
  function install(root: string, mains: string[]) {
    mkdirSync(path.join(root, 'bin'), { recursive: true })
    copyFileSync(LAUNCHER, path.join(root, 'bin/howdah'))
    writeFileSync(path.join(root, 'package.json'), '{"type": "module"}')
    for (const main of mains) {
      const file = path.join(root, 'dist', `${main}.js`)
      mkdirSync(path.dirname(file), { recursive: true })
      writeFileSync(
        file,
        `console.log(JSON.stringify([${JSON.stringify(main)}, process.argv.slice(2), process.execArgv, process.ppid]))`,
      )
    }
    return path.join(root, 'bin/howdah')
  }

  /** A PATH with what a shell script needs, and this `node` if any. */
  function pathWith(node: string | undefined) {
    const bin = path.join(directory, 'path')
    mkdirSync(bin)
    for (const tool of ['dirname', 'readlink']) symlinkSync(`/usr/bin/${tool}`, path.join(bin, tool))
    if (node !== undefined) writeFileSync(path.join(bin, 'node'), node, { mode: 0o755 })
    return { ...process.env, PATH: bin }
  }

  it('runs a checkout from any working directory', () => {
    const { status, stdout } = start(LAUNCHER, ['--version'])
    expect(status).to.equal(0)
    expect(stdout).to.match(/^howdah \d+\.\d+\.\d+\n$/)
  })

  it('runs by a chain of symbolic links, one with a space in its name', () => {
    const first = path.join(directory, 'first link')
    symlinkSync(LAUNCHER, first)
    symlinkSync('first link', path.join(directory, 'second'))
    expect(start(path.join(directory, 'second'), ['--version']).stdout).to.match(/^howdah \d/)
  })

  it('runs an installed package with the Node that npm installed beside it', () => {
    const modules = path.join(directory, 'node_modules')
    const launcher = install(path.join(modules, 'howdah'), ['coordinator/cli/main'])
    mkdirSync(path.join(modules, 'node/bin'), { recursive: true })
    symlinkSync(process.execPath, path.join(modules, 'node/bin/node'))
    const [main, args, execArgv] = JSON.parse(
      start(launcher, ['show', 'a b', '--json'], pathWith(undefined)).stdout,
    )
    expect(main).to.equal('coordinator/cli/main')
    expect(args).to.deep.equal(['show', 'a b', '--json'])
    expect(execArgv).to.deep.equal(['--disable-warning=ExperimentalWarning'])
  })

  it('starts the main of each role without the verb among its arguments', () => {
    const mains = ['coordinator/main', 'agents/mount/main', 'agents/target/main']
    const launcher = install(path.join(directory, 'howdah'), mains)
    mkdirSync(path.join(directory, '.bin'))
    symlinkSync(process.execPath, path.join(directory, '.bin/node'))
    const started = ['coordinator', 'mount-agent', 'target-agent'].map(
      (role) => JSON.parse(start(launcher, [role, '--config', 'x']).stdout) as [string, string[]],
    )
    expect(started.map(([main]) => main)).to.deep.equal(mains)
    for (const [, args] of started) expect(args).to.deep.equal(['--config', 'x'])
    const [main, args] = JSON.parse(start(launcher, ['help', 'mount-agent']).stdout)
    expect([main, args]).to.deep.equal(['agents/mount/main', ['--help']])
  })

  it('replaces itself by the program, so that signals and process ids are those of the program', () => {
    const launcher = install(path.join(directory, 'howdah'), ['coordinator/cli/main'])
    mkdirSync(path.join(directory, '.bin'))
    symlinkSync(process.execPath, path.join(directory, '.bin/node'))
    expect(JSON.parse(start(launcher, ['sessions']).stdout)[3]).to.equal(process.pid)
  })

  it('says what to do when Node is too old', () => {
    const launcher = install(path.join(directory, 'howdah'), ['coordinator/cli/main'])
    const { status, stderr } = start(launcher, ['sessions'], pathWith('#!/bin/sh\necho v20.1.0\n'))
    expect(status).to.equal(1)
    expect(stderr).to.include('Node.js 24 or newer is needed (found: v20.1.0)')
    expect(stderr).to.include('npm ci')
  })

  it('says what to do when there is no Node', () => {
    const launcher = install(path.join(directory, 'howdah'), ['coordinator/cli/main'])
    const { status, stderr } = start(launcher, ['sessions'], pathWith(undefined))
    expect(status).to.equal(1)
    expect(stderr).to.include('found: none on PATH')
  })

  it('says what to do when the program is missing', () => {
    const launcher = install(path.join(directory, 'howdah'), [])
    mkdirSync(path.join(directory, '.bin'))
    symlinkSync(process.execPath, path.join(directory, '.bin/node'))
    const { status, stderr } = start(launcher, ['sessions'])
    expect(status).to.equal(1)
    expect(stderr).to.include('npm run build')
  })
})
