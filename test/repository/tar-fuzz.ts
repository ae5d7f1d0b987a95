/** Malformed tar archives, through the reader: a few in the tests, many in the soak. */
import fc from 'fast-check'
import { MalformedTar, UnsupportedTar } from '../../agents/mount/formats/tar/tar-header.ts'
import { tarMembers } from '../../agents/mount/formats/tar/tar-members.ts'
import { makeTar, pax } from '../support/tar.ts'

const name = fc.oneof(
  fc.string({ maxLength: 120 }),
  fc.constantFrom('..', '.', '/', 'a/../b', 'a//b', 'a/', './', './/x'),
)
const member = fc.record({
  name,
  type: fc.constantFrom('0', '1', '2', '5', 'x', 'g', 'L', 'K', 'S', '\0', '7', 'Z'),
  data: fc.oneof(fc.uint8Array({ maxLength: 1500 }), fc.dictionary(fc.string(), fc.string()).map(pax)),
  linkName: name,
})
/** Bytes that are changed afterwards, checksums or not. */
const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 })

/** Members outside of the archive, odd paths, or errors of any other kind than its own fail it. */
export const TAR_FUZZ = fc.asyncProperty(
  fc.array(member, { maxLength: 6 }),
  changes,
  fc.boolean(),
  async (members, changed, ended) => {
    const archive = makeTar(
      members.map((one) => ({ ...one, data: Buffer.from(one.data) })),
      ended,
    )
    for (const [at, value] of changed) if (archive.length > 0) archive[at % archive.length] = value
    const read = async (offset: number, length: number) => archive.subarray(offset, offset + length)
    try {
      for await (const { path, offset, size } of tarMembers(read)) {
        if (offset + size > archive.length) throw new Error(`${path} ends after the archive`)
        if (/(^|\/)\.\.?(\/|$)|^\/|\/$|\0/.test(path)) throw new Error(`${JSON.stringify(path)} is a path`)
      }
    } catch (error) {
      if (!(error instanceof MalformedTar || error instanceof UnsupportedTar)) throw error
    }
  },
)
