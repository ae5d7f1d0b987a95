/**
 * The index of one tar archive of a repository: where each member's data is. Built in one pass, which for a compressed
 * archive is the pass that decodes it, and kept in a file of the spool, so that a restart need not build it again. Only
 * the members that describe the backup are kept in memory.
 */
import { createReadStream } from 'node:fs'
import { open, readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { StoredFile } from '../../decode/stored-file.ts'
import { damaged, isSystemError } from '../../decode/stored-file.ts'
import type { Spool } from '../../spool/spool.ts'
import { MalformedTar, UnsupportedTar } from './tar-header.ts'
import { type TarMember, tarMembers } from './tar-members.ts'

const KNOWN_ARCHIVES = 256

/** The last line of an index: one without it is incomplete. */
const END = '"end"'
const FLUSH_BYTES = 256 * 1024
/** Limit for the indexes of a spool: the least recently used ones are removed. */
const KEPT_BYTES = 2 * 1024 ** 3
/** Available as soon as indexing reached them: the few members that describe a backup. */
const EARLY = /^(backup_label|tablespace_map|PG_VERSION|base\/1\/PG_VERSION|global\/pg_control)$/

export interface TarIndex {
  /** All members in the archive's order, once it is indexed. @throws as `find` */
  members(): AsyncIterable<TarMember>
  /**
   * One of the few members that describe a backup (`EARLY`), as soon as indexing reached it; undefined when it does not
   * exist.
   * @throws HowdahError `backup_damaged` | `backup_unsupported` | `repository_unavailable`
   */
  find(path: string): Promise<TarMember | undefined>
}

/** Indexes of a repository's archives; each is built once at a time. */
export interface TarIndexes {
  open(archive: StoredFile): Promise<TarIndex>
}

interface Making {
  readonly early: Map<string, TarMember>
  /** Resolves when the index file is complete. */
  readonly made: Promise<void>
  /** Called for every member that `EARLY` matches, and at the end. */
  passed: () => void
}

export function createTarIndexes(spool: Spool): TarIndexes {
  const making = new Map<string, Making>()
  /** Early members of archives with a complete index. */
  const known = new Map<string, ReadonlyMap<string, TarMember>>()

  function make(key: string, archive: StoredFile): Making {
    const running = making.get(key)
    if (running !== undefined) return running
    const early = new Map<string, TarMember>()
    const state: Making = {
      early,
      passed: () => undefined,
      made: writeIndex(spool, key, archive, (member) => {
        if (!EARLY.test(member.path)) return
        early.set(member.path, member)
        state.passed()
      }).finally(() => {
        making.delete(key)
        state.passed()
      }),
    }
    making.set(key, state)
    state.made.catch(() => undefined)
    return state
  }

  return {
    async open(archive) {
      const key = await spool.key(archive)
      const file = join(spool.indexDirectory, `${key}.tar`)

      /** Reads the index file, which is built first where it does not exist. */
      async function* members(): AsyncGenerator<TarMember> {
        if (!(await isComplete(file))) await make(key, archive).made
        for await (const line of linesOf(file)) if (line !== '' && line !== END) yield parseMember(line)
      }

      async function earlyMembers(): Promise<ReadonlyMap<string, TarMember>> {
        const found = new Map<string, TarMember>()
        for await (const member of members()) if (EARLY.test(member.path)) found.set(member.path, member)
        return found
      }

      return {
        members,
        async find(path) {
          if (await isComplete(file)) {
            const found = known.get(key) ?? (await earlyMembers())
            known.delete(key)
            known.set(key, found)
            for (const oldest of known.keys()) if (known.size > KNOWN_ARCHIVES) known.delete(oldest)
            return found.get(path)
          }
          const state = make(key, archive)
          while (making.get(key) === state) {
            const member = state.early.get(path)
            if (member !== undefined) return member
            await new Promise<void>((resolve) => {
              const before = state.passed
              state.passed = () => {
                before()
                state.passed = () => undefined
                resolve()
              }
            })
          }
          await state.made
          return state.early.get(path)
        },
      }
    },
  }
}

async function writeIndex(
  spool: Spool,
  key: string,
  archive: StoredFile,
  passed: (member: TarMember) => void,
): Promise<void> {
  const file = join(spool.indexDirectory, `${key}.tar`)
  const part = `${file}.${process.pid}.part`
  await makeRoom(spool.indexDirectory)
  const out = await open(part, 'w', 0o600)
  try {
    let lines = ''
    for await (const member of tarMembers((offset, length) => spool.read(archive, offset, length))) {
      passed(member)
      lines += `${formatMember(member)}\n`
      if (lines.length < FLUSH_BYTES) continue
      await out.write(lines)
      lines = ''
    }
    await out.write(`${lines}${END}\n`)
    await out.datasync()
    await out.close()
    await rename(part, file)
  } catch (error) {
    await out.close().catch(() => undefined)
    await rm(part, { force: true })
    if (error instanceof UnsupportedTar) {
      throw new HowdahError(
        'backup_unsupported',
        `${archive.description} (${archive.region.path}): ${error.message}, which no backup of PostgreSQL has`,
        { cause: error },
      )
    }
    if (error instanceof MalformedTar) throw damaged(archive, error.message, error)
    if (isSystemError(error)) {
      throw new HowdahError(
        'repository_unavailable',
        `the mount agent cannot write its spool (${part}): ${error.message}; make room there or give it another directory`,
        { cause: error },
      )
    }
    throw error
  }
}

/** An index under its final name is complete, unless its end was lost before it reached the disk; then it is built again. */
async function isComplete(file: string): Promise<boolean> {
  try {
    const handle = await open(file, 'r')
    try {
      const { size } = await handle.stat()
      const tail = Buffer.alloc(Math.min(size, END.length + 1))
      await handle.read(tail, 0, tail.length, size - tail.length)
      const now = new Date()
      await utimes(file, now, now).catch(() => undefined)
      return tail.toString('latin1') === `${END}\n`
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return false
    throw error
  }
}

/** Split at newlines only: a name may contain any other separator. */
async function* linesOf(file: string): AsyncGenerator<string> {
  let rest = ''
  const pieces = createReadStream(file, { highWaterMark: FLUSH_BYTES, encoding: 'utf8' })
  for await (const piece of pieces as AsyncIterable<string>) {
    const lines = (rest + piece).split('\n')
    rest = lines.pop() ?? ''
    yield* lines
  }
}

async function makeRoom(directory: string): Promise<void> {
  const found: { path: string; size: number; mtimeMs: number }[] = []
  for (const name of await readdir(directory)) {
    const path = join(directory, name)
    const about = await stat(path).catch(() => undefined)
    if (about !== undefined) found.push({ path, size: about.size, mtimeMs: about.mtimeMs })
  }
  let bytes = found.reduce((sum, { size }) => sum + size, 0)
  for (const { path, size } of found.sort((a, b) => a.mtimeMs - b.mtimeMs)) {
    if (bytes <= KEPT_BYTES) return
    await rm(path, { force: true })
    bytes -= size
  }
}

const KINDS = ['file', 'directory', 'symlink'] as const

/** As JSON, because a name may contain anything. */
const formatMember = ({ path, kind, mode, mtime, offset, size, linkTarget }: TarMember) =>
  JSON.stringify([
    path,
    KINDS.indexOf(kind),
    mode,
    mtime,
    offset,
    size,
    ...(linkTarget === undefined ? [] : [linkTarget]),
  ])

function parseMember(line: string): TarMember {
  const [path, kind, mode, mtime, offset, size, linkTarget] = JSON.parse(line) as [
    string,
    number,
    number,
    number,
    number,
    number,
    string?,
  ]
  const member = { path, kind: KINDS[kind] ?? 'file', mode, mtime, offset, size }
  return linkTarget === undefined ? member : { ...member, linkTarget }
}
