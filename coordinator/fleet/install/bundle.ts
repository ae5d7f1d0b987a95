/** The bundle that is installed on hosts: a file that `npm run bundle` made, whose hash is beside it. */
import { createHash } from 'node:crypto'
import { createReadStream, existsSync, globSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { HowdahError } from '../../../messages/errors.ts'

export interface Bundle {
  readonly file: string
  readonly version: string
  readonly bytes: number
  /** Hexadecimal. */
  readonly sha256: string
  /** From a byte to the end. */
  read(from: number): Readable
  /** Of the first bytes, hexadecimal: what a host has got so far is compared with it. */
  hashOfFirst(bytes: number): Promise<string>
}

const NAME = /^howdah-([0-9][0-9A-Za-z.+~]*)-linux-x64\.tar\.gz$/

/**
 * @param file undefined: the one in `directories`
 * @throws HowdahError `configuration`: there is none, there are several, or its hash is another one
 */
export async function openBundle(file: string | undefined, directories: readonly string[]): Promise<Bundle> {
  const found = file ?? onlyBundle(directories)
  const [, version] = NAME.exec(path.basename(found)) ?? []
  if (version === undefined)
    throw problem(
      `${found} is no bundle: its name must be howdah-VERSION-linux-x64.tar.gz, as "npm run bundle" makes it`,
    )
  if (!existsSync(found)) throw problem(`the bundle ${found} does not exist`)
  const bytes = statSync(found).size
  const sha256 = await hashOf(found, bytes)
  const expected = readHash(`${found}.sha256`)
  if (sha256 !== expected)
    throw problem(
      `${found} is damaged or incomplete: its SHA-256 is ${sha256}, and ${found}.sha256 says ${expected}. Make or copy it again.`,
    )
  return {
    ...{ file: found, version, bytes, sha256 },
    read: (from) => createReadStream(found, { start: from }),
    hashOfFirst: (count) => hashOf(found, count),
  }
}

function onlyBundle(directories: readonly string[]): string {
  const found = directories.flatMap((directory) =>
    globSync(path.join(directory, 'howdah-*-linux-x64.tar.gz')),
  )
  const [first, ...others] = found
  if (first === undefined)
    throw problem(
      `there is no bundle in ${directories.join(' or ')}. Make one with "npm run bundle", or name one with --bundle.`,
    )
  if (others.length > 0)
    throw problem(`there are several bundles: ${found.sort().join(', ')}. Name one with --bundle.`)
  return first
}

function readHash(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim().split(/\s+/)[0] ?? ''
  } catch (cause) {
    throw problem(`the hash of the bundle cannot be read: ${(cause as Error).message}`)
  }
}

/** SHA-256 of the first bytes of a file, hexadecimal. */
export async function hashOf(file: string, bytes: number): Promise<string> {
  const hash = createHash('sha256')
  if (bytes > 0) await pipeline(createReadStream(file, { end: bytes - 1 }), hash)
  return hash.digest('hex')
}

function problem(message: string): HowdahError {
  return new HowdahError('configuration', message)
}
