/** How much the kernel may hold of a mount, on kernels and machines other than this one: files stand for the kernel's. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import {
  boundChangedBytes,
  type KernelFiles,
  MAX_CHANGED_BYTES,
} from '../../agents/target/filesystem/drivers/kernel/backing-device.ts'

const GIB = 1024 ** 3
const DEVICE = '0:99'

describe('the bound of dirty pages of a mount', () => {
  let root: string
  let files: KernelFiles

  beforeEach(() => {
    root = mkdtempSync('/tmp/howdah-bdi-')
    files = { sys: `${root}/sys`, proc: `${root}/proc` }
  })
  afterEach(() => rmSync(root, { recursive: true }))

  function put(path: string, text: string | number): void {
    mkdirSync(dirname(`${root}/${path}`), { recursive: true })
    writeFileSync(`${root}/${path}`, `${text}\n`)
  }
  function machine(memoryBytes: number, settings: Readonly<Record<string, number>>, dirtyBytes = 0): void {
    put('proc/meminfo', `MemTotal:       ${memoryBytes / 1024} kB\nMemFree:        400000 kB`)
    put('proc/sys/vm/dirty_ratio', dirtyBytes > 0 ? 0 : 20)
    put('proc/sys/vm/dirty_bytes', dirtyBytes)
    for (const [name, value] of Object.entries(settings)) put(`sys/class/bdi/${DEVICE}/${name}`, value)
  }
  const bound = () => boundChangedBytes(DEVICE, pino({ level: 'silent' }), files)
  const setting = (name: string) => Number(readFileSync(`${root}/sys/class/bdi/${DEVICE}/${name}`, 'latin1'))

  it('is a share of the highest dirty threshold, so that memory freed later does not raise it', () => {
    machine(64 * GIB, { max_ratio: 1, max_ratio_fine: 10_000 })
    expect(bound()).to.be.within(MAX_CHANGED_BYTES * 0.99, MAX_CHANGED_BYTES)
    expect(setting('max_ratio_fine')).to.equal(Math.floor((MAX_CHANGED_BYTES * 1_000_000) / (64 * GIB * 0.2)))
    expect(setting('max_ratio')).to.equal(1)
  })

  it('is restored when another process raised the share, and follows the operator’s own bounds', () => {
    machine(64 * GIB, { max_ratio_fine: 1_000_000 })
    expect(bound()).to.be.at.most(MAX_CHANGED_BYTES)
    machine(64 * GIB, { max_ratio_fine: 1_000_000 }, GIB)
    expect(bound()).to.be.within(MAX_CHANGED_BYTES * 0.99, MAX_CHANGED_BYTES)
    expect(setting('max_ratio_fine')).to.equal(250_000)
    machine(64 * GIB, { max_ratio_fine: 10_000 }, MAX_CHANGED_BYTES / 4)
    expect(bound()).to.equal(MAX_CHANGED_BYTES / 4)
  })

  it('is rounded to whole percents on kernels before 6.2, even if that is more', () => {
    machine(16 * GIB, { max_ratio: 1 })
    expect(bound()).to.be.within(MAX_CHANGED_BYTES * 0.8, MAX_CHANGED_BYTES)
    expect(setting('max_ratio')).to.equal(7)
    machine(1024 * GIB, { max_ratio: 1 })
    expect(bound()).to.equal(Math.ceil((1024 * GIB * 0.2) / 100))
  })

  it('is computed from the next coarser share where one cannot be read, and from FUSE’s default where none can', () => {
    machine(64 * GIB, { max_ratio_fine: 100_000 })
    const path = `${root}/sys/class/bdi/${DEVICE}/max_ratio_fine`
    rmSync(path)
    mkdirSync(path)
    put(`sys/class/bdi/${DEVICE}/max_ratio`, 2)
    expect(bound()).to.be.at.most(MAX_CHANGED_BYTES)
    rmSync(`${root}/sys`, { recursive: true })
    expect(bound()).to.equal(Math.ceil((64 * GIB * 0.2) / 100))
  })
})
