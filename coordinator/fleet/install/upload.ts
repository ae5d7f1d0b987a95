/**
 * Brings a bundle to a host and unpacks it to /opt/howdah/VERSION. Everything belongs to root from the first byte, so that
 * nobody there can exchange it between the check of its hash and its use. What was sent before a cut stays, and is gone on
 * from if it is the beginning of the same file. A directory has the name of a version only when it is complete.
 */
import { existsSync, readFileSync } from 'node:fs'
import { Transform } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { HowdahError } from '../../../messages/errors.ts'
import { formatBytes } from '../../../messages/format-bytes.ts'
import type { RootShell } from '../ssh/elevation.ts'
import type { Completed } from '../ssh/remote-script.ts'
import type { Bundle } from './bundle.ts'

export interface UploadOptions {
  readonly root: RootShell
  readonly bundle: Bundle
  /** Of the host, in errors. */
  readonly name: string
  /** Bytes that are there, of the whole. */
  readonly progress: (done: number) => void
  readonly signal: AbortSignal
}

export const PROGRAMS = '/opt/howdah'

const SHORT_DEADLINE_MS = 60_000
/** 50 MiB at 50 kB/s. */
const UPLOAD_DEADLINE_MS = 1_200_000
const UNPACK_DEADLINE_MS = 300_000
/** Exit status of bin/unpack-bundle. */
const WRONG_HASH = 4
const DISK_FULL = 5

const uploadFile = ({ sha256 }: Bundle): string => `${PROGRAMS}/.upload-${sha256.slice(0, 16)}.tar.gz`

/** @returns whether anything was sent. @throws HowdahError `space_low` | `operation_failed` | as `RootShell.run` */
export async function uploadBundle(options: UploadOptions): Promise<boolean> {
  const { root, bundle, name, progress, signal } = options
  const file = uploadFile(bundle)
  const look = `mkdir -p -m 755 ${PROGRAMS} || exit; if [ -f ${file} ]; then wc -c <${file}; sha256sum <${file}; fi`
  const before = await root.run(look, { signal, deadlineMs: SHORT_DEADLINE_MS })
  expectSuccess(before, name, `making ${PROGRAMS}`)
  const [size = '0', hash = ''] = before.stdout.trim().split(/\s+/)
  const there = Number(size)
  const from = there > 0 && there <= bundle.bytes && (await bundle.hashOfFirst(there)) === hash ? there : 0
  if (from === bundle.bytes) return false
  let sent = from
  progress(sent)
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      sent += chunk.length
      progress(sent)
      done(null, chunk)
    },
  })
  const input = bundle.read(from)
  input.on('error', (error) => counter.destroy(error))
  const save = `umask 077; ${from === 0 ? `: >${file} && ` : ''}cat >>${file}`
  const saved = await root.run(save, { input: input.pipe(counter), signal, deadlineMs: UPLOAD_DEADLINE_MS })
  input.destroy()
  expectSuccess(saved, name, `writing ${file}`)
  return true
}

/** By bin/unpack-bundle, which needs nothing of Howdah there. @throws HowdahError `space_low` | `operation_failed` */
export async function unpackBundle({
  root,
  bundle,
  name,
  signal,
}: Omit<UploadOptions, 'progress'>): Promise<void> {
  const file = uploadFile(bundle)
  const script = `set -- ${file} ${bundle.sha256}\n${unpackProgram()}`
  const unpacked = await root.run(script, { signal, deadlineMs: UNPACK_DEADLINE_MS })
  if (unpacked.status === WRONG_HASH) {
    await root.run(`rm -f ${file}`, { signal, deadlineMs: SHORT_DEADLINE_MS })
    throw new HowdahError(
      'operation_failed',
      `what arrived on ${name} is not the bundle, and was removed; begin again. ${lastLine(unpacked.stderr)}`,
    )
  }
  if (unpacked.status === DISK_FULL)
    throw new HowdahError('space_low', `the disk is full on ${name}: ${lastLine(unpacked.stderr)}`)
  expectSuccess(unpacked, name, `unpacking ${file}`)
  await root.run(`rm -f ${PROGRAMS}/.upload-*`, { signal, deadlineMs: SHORT_DEADLINE_MS })
}

/** Of this program, which is a checkout or built. */
function unpackProgram(): string {
  for (const place of ['../../../bin/unpack-bundle', '../../../../bin/unpack-bundle']) {
    const file = fileURLToPath(new URL(place, import.meta.url))
    if (existsSync(file)) return readFileSync(file, 'utf8')
  }
  throw new HowdahError(
    'configuration',
    'this program is incomplete: bin/unpack-bundle is missing; install Howdah again',
  )
}

/** A full disk is said as such. @throws HowdahError `space_low` | `operation_failed` */
export function expectSuccess({ status, stderr }: Completed, name: string, doing: string): void {
  if (status === 0) return
  if (/No space left on device|Disk quota exceeded/.test(stderr))
    throw new HowdahError(
      'space_low',
      `the disk is full on ${name}, ${doing}: ${lastLine(stderr)}. Make room in ${PROGRAMS}.`,
    )
  throw new HowdahError(
    'operation_failed',
    `${doing} failed on ${name} (status ${status ?? 'none'}): ${lastLine(stderr) || 'it said nothing'}`,
  )
}

function lastLine(text: string): string {
  return text.trim().split('\n').slice(-3).join('; ')
}

export const uploadedText = (done: number, { bytes }: Bundle): string =>
  `${formatBytes(done)} of ${formatBytes(bytes)}`
