/** A bundle without Howdah in it: as small or as large as a test wants. */
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { type Bundle, openBundle } from '../../coordinator/fleet/install/bundle.ts'

const run = promisify(execFile)

export interface Contents {
  readonly version: string
  /** Random, so that they are as large in the archive. */
  readonly randomBytes?: number
  /** Zeros, of which the archive is small. */
  readonly zeroBytes?: number
}

export async function makeSmallBundle(directory: string, contents: Contents): Promise<Bundle> {
  const { version, randomBytes: random = 0, zeroBytes = 0 } = contents
  const tree = path.join(directory, `howdah-${version}`)
  const file = path.join(directory, `howdah-${version}-linux-x64.tar.gz`)
  await mkdir(path.join(tree, 'bin'), { recursive: true })
  for (const program of ['howdah', 'node'])
    await writeFile(path.join(tree, 'bin', program), '#!/bin/sh\necho v24.0.0\n', { mode: 0o755 })
  await writeFile(path.join(tree, 'package.json'), JSON.stringify({ name: 'howdah', version }))
  await writeFile(path.join(tree, 'random'), randomBytes(random))
  await writeFile(path.join(tree, 'zeros'), Buffer.alloc(zeroBytes))
  await run('tar', ['-C', directory, '-czf', file, path.basename(tree)])
  await rm(tree, { recursive: true })
  const hash = createHash('sha256')
    .update(await readFile(file))
    .digest('hex')
  await writeFile(`${file}.sha256`, `${hash}  ${path.basename(file)}\n`)
  return openBundle(file, [])
}
