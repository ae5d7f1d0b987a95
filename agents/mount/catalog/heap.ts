/**
 * Reads rows from the pages of a table's file, without a server. Pure.
 *
 * Facts, the same for PostgreSQL 10 to 18 (storage/bufpage.h, storage/itemid.h, access/htup_details.h, varatt.h): a
 * page of 8 KiB has u16 pd_lower at 12 and u16 pd_pagesize_version at 18, and line pointers of 32 bits from 24 on
 * (offset 15 bits, state 2 bits, length 15 bits). A row begins with u32 xmin, u32 xmax, and has u16 t_infomask2 at 18,
 * u16 t_infomask at 20, u8 t_hoff at 22 and from 23 on the bitmap of columns that are not null; its data begin at
 * t_hoff.
 */
import type { ColumnType, Layout } from './layouts.ts'

export const PAGE_BYTES = 8192

/** NULLs are undefined. */
export type Row = Readonly<Record<string, string | number | boolean | undefined>>

/** Whether a transaction committed, as pg_xact has it; undefined: not known. */
export type IsCommitted = (xid: number) => boolean | undefined

const NORMAL = 1
const HAS_NULL = 0x0001
const HAS_OID = 0x0008
const XMAX_LOCK_ONLY = 0x0080
const XMIN_COMMITTED = 0x0100
const XMIN_INVALID = 0x0200
const XMAX_COMMITTED = 0x0400
const XMAX_INVALID = 0x0800
const XMAX_IS_MULTI = 0x1000
const ATTRIBUTES = 0x07ff
const FIRST_NORMAL_XID = 3

/** A page or row that does not have this format. */
export class MalformedPage extends Error {
  override readonly name = 'MalformedPage'
}

/** The rows that are visible to a new transaction. @throws MalformedPage */
export function readRows(pages: Buffer, layout: Layout, isCommitted: IsCommitted): Row[] {
  const rows: Row[] = []
  for (let start = 0; start + PAGE_BYTES <= pages.length; start += PAGE_BYTES) {
    const page = pages.subarray(start, start + PAGE_BYTES)
    const lower = page.readUInt16LE(12)
    // A page that was added and is still unused.
    if (lower === 0) continue
    const size = page.readUInt16LE(18) & 0xff00
    if (size !== PAGE_BYTES || lower < 24 || lower > PAGE_BYTES) throw new MalformedPage('no page of 8 KiB')
    for (let at = 24; at + 4 <= lower; at += 4) {
      const pointer = page.readUInt32LE(at)
      if (((pointer >>> 15) & 3) !== NORMAL) continue
      const offset = pointer & 0x7fff
      const length = pointer >>> 17
      if (length < 24 || offset + length > PAGE_BYTES)
        throw new MalformedPage('a row that is not on its page')
      const tuple = page.subarray(offset, offset + length)
      if (isVisible(tuple, isCommitted)) rows.push(readRow(tuple, layout))
    }
  }
  return rows
}

function isVisible(tuple: Buffer, isCommitted: IsCommitted): boolean {
  const xmin = tuple.readUInt32LE(0)
  const xmax = tuple.readUInt32LE(4)
  const mask = tuple.readUInt16LE(20)
  const isThere =
    (mask & XMIN_COMMITTED) !== 0 ||
    ((mask & XMIN_INVALID) === 0 && (xmin < FIRST_NORMAL_XID || isCommitted(xmin) !== false))
  if (!isThere) return false
  if (xmax === 0 || (mask & (XMAX_INVALID | XMAX_LOCK_ONLY | XMAX_IS_MULTI)) !== 0) return true
  return (mask & XMAX_COMMITTED) === 0 && isCommitted(xmax) !== true
}

/** A hidden OID becomes the column `oid`. */
function readRow(tuple: Buffer, layout: Layout): Row {
  const mask = tuple.readUInt16LE(20)
  const present = tuple.readUInt16LE(18) & ATTRIBUTES
  const start = tuple[22] ?? 0
  if (start < 23 || start > tuple.length) throw new MalformedPage('a row whose data begin nowhere')
  const data = tuple.subarray(start)
  const row: Record<string, string | number | boolean | undefined> = {}
  if ((mask & HAS_OID) !== 0 && start >= 28) row.oid = tuple.readUInt32LE(start - 4)
  let at = 0
  let number = 0
  for (const [name, type] of Object.entries(layout)) {
    if (number >= present) break
    const isNull = (mask & HAS_NULL) !== 0 && ((tuple[23 + (number >> 3)] ?? 0) & (1 << (number & 7))) === 0
    number += 1
    if (isNull) continue
    const value = readValue(data, at, type)
    row[name] = value.value
    at = value.end
  }
  return row
}

function readValue(
  data: Buffer,
  at: number,
  type: ColumnType,
): { readonly value: string | number | boolean | undefined; readonly end: number } {
  const need = (offset: number, bytes: number) => {
    if (offset + bytes > data.length) throw new MalformedPage('a row that is shorter than its columns')
  }
  const aligned = Math.ceil(at / 4) * 4
  switch (type) {
    case 'oid':
    case 'int4':
      need(aligned, 4)
      return {
        value: type === 'oid' ? data.readUInt32LE(aligned) : data.readInt32LE(aligned),
        end: aligned + 4,
      }
    case 'bool':
    case 'char':
      need(at, 1)
      return { value: type === 'bool' ? data[at] !== 0 : String.fromCharCode(data[at] ?? 0), end: at + 1 }
    case 'name': {
      need(at, 64)
      const end = data.indexOf(0, at)
      return { value: data.toString('utf8', at, end < 0 || end > at + 64 ? at + 64 : end), end: at + 64 }
    }
    case 'text': {
      need(at, 1)
      const first = data[at] ?? 0
      if ((first & 1) === 1) {
        const length = first >> 1
        // Length 0 is a pointer to a TOAST table.
        if (length === 0) throw new MalformedPage('a value that is stored elsewhere')
        need(at, length)
        return { value: data.toString('utf8', at + 1, at + length), end: at + length }
      }
      need(aligned, 4)
      const header = data.readUInt32LE(aligned)
      const length = header >>> 2
      need(aligned, Math.max(4, length))
      // Locales are short; a compressed one would be longer than any.
      const isPlain = (header & 3) === 0
      return {
        value: isPlain ? data.toString('utf8', aligned + 4, aligned + length) : undefined,
        end: aligned + length,
      }
    }
    default:
      return type satisfies never
  }
}
