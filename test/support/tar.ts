/** Owns making tar archives that no program writes. */

export interface MadeMember {
  readonly name: string
  readonly type?: string
  readonly data?: Buffer
  readonly linkName?: string
  /** In the header, regardless of the data. */
  readonly size?: number
}

export function tarHeader({ name, type = '0', data, linkName = '', size }: MadeMember): Buffer {
  const block = Buffer.alloc(512)
  block.write(name.slice(0, 100), 0)
  block.write('0000600\0', 100)
  block.write('0000000\0', 108)
  block.write('0000000\0', 116)
  block.write(`${(size ?? data?.length ?? 0).toString(8).padStart(11, '0')}\0`, 124)
  block.write('14700000000\0', 136)
  block.write(type, 156)
  block.write(linkName.slice(0, 100), 157)
  block.write('ustar\x0000', 257)
  block.fill(' ', 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

/** @param ended false: without the two blocks of zeros that end an archive */
export function makeTar(members: readonly MadeMember[], ended = true): Buffer {
  const parts: Buffer[] = []
  for (const member of members) {
    const { data = Buffer.alloc(0) } = member
    parts.push(tarHeader(member), data, Buffer.alloc((512 - (data.length % 512)) % 512))
  }
  if (ended) parts.push(Buffer.alloc(1024))
  return Buffer.concat(parts)
}

/** The data of an extended header. */
export function pax(records: Readonly<Record<string, string>>): Buffer {
  const lines = Object.entries(records).map(([key, value]) => {
    const rest = Buffer.byteLength(` ${key}=${value}\n`)
    let length = rest + 1
    while (String(length).length + rest !== length) length += 1
    return `${length} ${key}=${value}\n`
  })
  return Buffer.from(lines.join(''))
}
