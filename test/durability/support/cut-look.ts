/** What an engine shows below `data/`: its names and the contents of its files. */

import type { Engine } from '../../../agents/target/filesystem/engine.ts'
import type { Ino } from '../../../agents/target/filesystem/file-system.ts'
import { ROOT } from '../../../agents/target/filesystem/tree/base-tree.ts'
import type { FoundFile } from './cut-model.ts'

const S_IFMT = 0o170000
const S_IFREG = 0o100000
const S_IFDIR = 0o040000

export interface Seen {
  readonly lines: readonly string[]
  /** Of everything but directories. */
  readonly paths: readonly string[]
  readonly files: readonly FoundFile[]
}

/** Every name below `data/`, and the contents of every file on request. */
export async function look(engine: Engine, withContents = true): Promise<Seen> {
  const lines: string[] = []
  const paths: string[] = []
  const files: FoundFile[] = []
  const seen = new Set<Ino>()

  async function visit(ino: Ino, path: string): Promise<void> {
    for (const { name, ino: child } of await engine.readdir(ino)) {
      const { mode, nlink, size } = engine.getattr(child)
      const kind = mode & S_IFMT
      const target = kind === S_IFREG || kind === S_IFDIR ? '' : ` ${engine.readlink(child)} ${size}`
      lines.push(`${child} ${path}/${name} ${mode.toString(8)} ${nlink}${target}`)
      if (kind === S_IFDIR) await visit(child, `${path}/${name}`)
      else paths.push(`${path}/${name}`)
      if (kind !== S_IFREG || !withContents || seen.has(child)) continue
      seen.add(child)
      const content = Buffer.alloc(size)
      const got = size === 0 ? 0 : await engine.read(child, content, size, 0)
      if (got !== size) throw new Error(`${path}/${name}: ${got} of ${size} bytes could be read`)
      files.push({ ino: child, path: `${path}/${name}`, content })
    }
  }
  const { ino } = await engine.lookup(ROOT, 'data')
  engine.forget(ino, 1)
  await visit(ino, 'data')
  return { lines: lines.sort(), paths, files }
}

/** Directory and last name of a path. @throws FileSystemError */
export async function place(engine: Engine, path: string): Promise<[Ino, string]> {
  const names = path.split('/')
  const last = names.pop() ?? ''
  let at: Ino = ROOT
  for (const name of names) {
    at = (await engine.lookup(at, name)).ino
    engine.forget(at, 1)
  }
  return [at, last]
}
