/**
 * Reads the names of roles and databases from the files of pg_authid and pg_database, for when no known role is admitted.
 * They are candidates only: the server decides which of them exist.
 *
 * The files are read as they are on disk: they include dead rows, and lack what is only in shared buffers.
 * Facts: a page as storage/bufpage.h and storage/itemid.h have it, a row as access/htup_details.h; the first columns of
 * pg_authid and pg_database (catalog/pg_authid.h, pg_database.h) are the same in 9.6 to 18 but for the OID, which is a
 * column from 12 on; pg_filenode.map as in utils/cache/relmapper.c.
 */
import { isUtf8 } from 'node:buffer'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { runAs } from '../process/user-process.ts'
import { type InstanceSpec, instancePaths, majorVersion } from '../specification.ts'

const run = promisify(execFile)

export interface RoleCandidate {
  readonly name: string
  readonly superuser: boolean
  readonly login: boolean
}

const PG_AUTHID = 1260
const PG_DATABASE = 1262
const MAP_MAGIC = 0x592717
const MAX_MAP_BYTES = 1024
const PAGE_BYTES = 8192
/** Tens of thousands of roles. */
const MAX_BYTES = 16 * 1024 ** 2
const NORMAL_POINTER = 1
const ROW_HEADER_BYTES = 23
const NAME_BYTES = 64
const READ_DEADLINE = 30_000

/** Superusers that may log in come first. @throws Error when the files cannot be read */
export async function roleCandidates(spec: InstanceSpec): Promise<RoleCandidate[]> {
  const found = new Map<string, RoleCandidate>()
  for (const row of await rowsOf(spec, PG_AUTHID)) {
    const name = nameIn(row)
    // rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin
    const [superuser, login] = [row[NAME_BYTES] === 1, row[NAME_BYTES + 4] === 1]
    if (name === undefined) continue
    const before = found.get(name)
    found.set(name, {
      name,
      superuser: superuser || before?.superuser === true,
      login: login || before?.login === true,
    })
  }
  const rank = ({ superuser, login }: RoleCandidate) => (superuser ? 0 : 2) + (login ? 0 : 1)
  return [...found.values()].sort((one, other) => rank(one) - rank(other))
}

/** @throws Error when the files cannot be read */
export async function databaseCandidates(spec: InstanceSpec): Promise<string[]> {
  const names = (await rowsOf(spec, PG_DATABASE)).map(nameIn)
  return [...new Set(names.filter((name) => name !== undefined))]
}

/** Undefined for a name that is not UTF-8, which a client cannot send. */
function nameIn(row: Buffer): string | undefined {
  const end = row.indexOf(0)
  const bytes = row.subarray(0, end < 0 ? NAME_BYTES : Math.min(end, NAME_BYTES))
  return bytes.length > 0 && isUtf8(bytes) ? bytes.toString() : undefined
}

/** Each row, beginning with the column after the OID. */
async function rowsOf(spec: InstanceSpec, catalog: number): Promise<Buffer[]> {
  const directory = join(instancePaths(spec).data, 'global')
  const file = fileNumber(await readBytes(spec, join(directory, 'pg_filenode.map'), MAX_MAP_BYTES), catalog)
  if (file === undefined) return []
  const pages = await readBytes(spec, join(directory, String(file)), MAX_BYTES)
  const oidBytes = majorVersion(spec.version) >= 12 ? 4 : 0
  const rows: Buffer[] = []
  for (let start = 0; start + PAGE_BYTES <= pages.length; start += PAGE_BYTES)
    for (const row of rowsOn(pages.subarray(start, start + PAGE_BYTES))) {
      const columns = row.subarray((row[ROW_HEADER_BYTES - 1] ?? 0) + oidBytes)
      if (columns.length > NAME_BYTES) rows.push(columns)
    }
  return rows
}

function fileNumber(map: Buffer, catalog: number): number | undefined {
  if (map.length < 8 || map.readInt32LE(0) !== MAP_MAGIC) return undefined
  const count = Math.min(map.readInt32LE(4), Math.floor((map.length - 8) / 8))
  for (let at = 8; at < 8 + count * 8; at += 8)
    if (map.readUInt32LE(at) === catalog) return map.readUInt32LE(at + 4)
  return undefined
}

function rowsOn(page: Buffer): Buffer[] {
  const lower = Math.min(page.readUInt16LE(12), PAGE_BYTES)
  const rows: Buffer[] = []
  for (let at = 24; at + 4 <= lower; at += 4) {
    const pointer = page.readUInt32LE(at)
    const [offset, length] = [pointer & 0x7fff, pointer >>> 17]
    if (((pointer >>> 15) & 3) !== NORMAL_POINTER || length <= ROW_HEADER_BYTES) continue
    if (offset + length <= PAGE_BYTES) rows.push(page.subarray(offset, offset + length))
  }
  return rows
}

/** Reads in a child process: the agent itself opens nothing in a mount, which may hang. */
async function readBytes(spec: InstanceSpec, path: string, maxBytes: number): Promise<Buffer> {
  const { stdout } = await run('head', ['-c', String(maxBytes), '--', path], {
    ...runAs(spec.user),
    ...{ cwd: '/', env: { LC_ALL: 'C' }, encoding: 'buffer', maxBuffer: maxBytes + 1 },
    ...{ timeout: READ_DEADLINE, killSignal: 'SIGKILL' },
  })
  return stdout
}
