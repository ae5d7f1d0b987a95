/** One WAL segment made ready: what it needs to get there, and that nothing is left of one that does not. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { expect } from 'chai'
import {
  makeSegmentReady,
  type ReadySegmentOptions,
} from '../../agents/target/mount-process/services/ready-segment.ts'

const MiB = 1024 * 1024
const NAME = '000000010000000000000001'

describe('making one WAL segment ready', () => {
  let directory: string
  let options: ReadySegmentOptions
  let size: number | undefined
  /** Happens with each read of the archive. */
  let onRead: () => void

  beforeEach(() => {
    directory = mkdtempSync('/var/tmp/howdah-ready-segment-')
    mkdirSync(`${directory}/ready`)
    mkdirSync(`${directory}/drafts`)
    size = 2 * MiB
    onRead = () => undefined
    options = {
      directory: `${directory}/ready`,
      drafts: `${directory}/drafts`,
      owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
      reserveBytes: 0,
      source: {
        size: async () => size,
        async read(_name, offset, length) {
          onRead()
          return Buffer.alloc(length, String(offset / MiB))
        },
        stored: async () => undefined,
        readStored: () => Promise.reject(new Error('nothing is stored')),
      },
    }
  })

  afterEach(() => rmSync(directory, { recursive: true }))

  const make = (segmentBytes?: number, dropped = () => false) =>
    makeSegmentReady(NAME, segmentBytes, dropped, options)
  const failure = (made: Promise<unknown>) => made.then(() => undefined, String)
  const left = () => [...readdirSync(options.directory), ...readdirSync(options.drafts)]

  it('writes it whole and gives its size', async () => {
    expect(await make()).to.equal(2 * MiB)
    expect(readFileSync(`${options.directory}/${NAME}`, 'latin1')).to.equal('0'.repeat(MiB) + '1'.repeat(MiB))
    expect(left()).to.deep.equal([NAME])
  })

  it('distinguishes a segment that the archive does not have from an incomplete one', async () => {
    size = undefined
    expect(await make()).to.equal('absent')
    size = 3 * MiB
    expect(await make()).to.equal('unavailable')
    size = MiB
    expect(await make(16 * MiB), 'of another size than the rest').to.equal('unavailable')
    expect(left()).to.deep.equal([])
  })

  it('is not begun where it would touch the reserve', async () => {
    options = { ...options, reserveBytes: Number.MAX_SAFE_INTEGER }
    expect(await failure(make())).to.contain('no space')
    expect(left()).to.deep.equal([])
  })

  it('leaves nothing of one that is dropped while it comes', async () => {
    let dropped = false
    onRead = () => {
      dropped = true
    }
    expect(await failure(make(undefined, () => dropped))).to.contain('no longer wanted')
    expect(left()).to.deep.equal([])
  })

  it('leaves nothing of one that is dropped when it was just made ready', async () => {
    expect(await make(undefined, () => existsSync(`${options.directory}/${NAME}`))).to.equal('unavailable')
    expect(left()).to.deep.equal([])
  })
})
