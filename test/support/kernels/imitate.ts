/**
 * Loaded before a program, and before each of its threads: makes it see the kernel that IMITATED_KERNEL describes
 * (kernels.ts). Changes what it reads of INIT, of the kernel's release and files, and how mount(8) ends.
 */
import childProcess from 'node:child_process'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import os from 'node:os'
import type { ImitatedKernel } from './kernels.ts'

const OP_INIT = 26
/** Offsets in INIT: `fuse_in_header`, then major, minor, max_readahead, flags, and from 7.36 on flags2. */
const MINOR_AT = 44
const FLAGS_AT = 52
const SHORT_INIT_BYTES = 56
const LONG_INIT_MINOR = 36

const kernel = JSON.parse(process.env.IMITATED_KERNEL ?? 'null') as ImitatedKernel | null
if (kernel !== null) imitate(kernel)

function imitate({ release, minor, flags, boundsFinely }: ImitatedKernel): void {
  const [major = 0, sub = 0] = release.split('.').map(Number)
  const isBefore = (otherMajor: number, otherSub: number) =>
    major < otherMajor || (major === otherMajor && sub < otherSub)
  os.release = () => release

  const readSync = fs.readSync
  fs.readSync = ((fd: number, buffer: Buffer, ...rest: [number, number, number | null]) => {
    const length = readSync(fd, buffer, ...rest)
    if (!isInit(fd, buffer, length)) return length
    buffer.writeUInt32LE(minor, MINOR_AT)
    buffer.writeUInt32LE((buffer.readUInt32LE(FLAGS_AT) & flags) >>> 0, FLAGS_AT)
    if (minor >= LONG_INIT_MINOR) return length
    buffer.writeUInt32LE(SHORT_INIT_BYTES, 0)
    return SHORT_INIT_BYTES
  }) as typeof fs.readSync

  const lacks = (path: unknown) =>
    (!boundsFinely && String(path).endsWith('/max_ratio_fine')) ||
    (isBefore(5, 14) && String(path).endsWith('/cgroup.kill'))
  const readFileSync = fs.readFileSync
  fs.readFileSync = ((path: string, ...rest: []) => {
    if (lacks(path)) throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' })
    return readFileSync(path, ...rest)
  }) as typeof fs.readFileSync
  const existsSync = fs.existsSync
  fs.existsSync = (path) => !lacks(path) && existsSync(path)

  const spawn = childProcess.spawn as (program: string, args: readonly string[], ...rest: object[]) => object
  const spawnHere = (program: string, args: readonly string[], ...rest: object[]) => {
    const refused = program === 'mount' && isBefore(5, 4) && args.some((arg) => arg.includes('subtype='))
    if (!refused) return spawn(program, args, ...rest)
    return spawn('sh', ['-c', 'echo "mount: wrong fs type, bad option" >&2; exit 32'], ...rest)
  }
  childProcess.spawn = spawnHere as typeof childProcess.spawn
  syncBuiltinESMExports()
}

function isInit(fd: number, buffer: Buffer, length: number): boolean {
  return (
    length >= SHORT_INIT_BYTES &&
    buffer.readUInt32LE(0) === length &&
    buffer.readUInt32LE(4) === OP_INIT &&
    fs.readlinkSync(`/proc/self/fd/${fd}`) === '/dev/fuse'
  )
}
