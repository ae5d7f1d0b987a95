/** Descriptors of local files: those in use stay open, and too few of them are no I/O error. */
import * as fs from 'node:fs'
import { expect } from 'chai'
import { BlockMap } from '../../agents/target/filesystem/contents/block-map.ts'
import { DataFiles, type LocalIo } from '../../agents/target/filesystem/contents/data-files.ts'
import { Inode } from '../../agents/target/filesystem/namespace/inode.ts'

describe('the local files of a write cache', () => {
  let directory: string
  let opened: string[]
  /** Descriptors that the process may have. */
  let allowed: number
  let files: DataFiles
  let inodes: Inode[]
  const open = new Set<number>()

  const io: LocalIo = {
    ...fs,
    readdirSync: (path) => fs.readdirSync(path),
    openSync(path, flags, mode) {
      if (open.size >= allowed) throw Object.assign(new Error('too many open files'), { code: 'EMFILE' })
      const fd = fs.openSync(path, flags, mode)
      open.add(fd)
      opened.push(path.slice(path.lastIndexOf('/') + 1))
      return fd
    },
    closeSync(fd) {
      open.delete(fd)
      fs.closeSync(fd)
    },
  }

  function make(limit: number): void {
    const never = () => Promise.reject(new Error('not in this test'))
    files = new DataFiles({
      directory,
      limit,
      io,
      services: { sync: never, syncDirectory: never, close: never },
    })
    opened = []
    inodes = Array.from({ length: 200 }, (_, ino) => new Inode(ino + 1, new BlockMap()))
  }
  beforeEach(() => {
    directory = fs.mkdtempSync('/var/tmp/howdah-files-')
    open.clear()
    opened = []
    allowed = 1000
  })
  afterEach(() => {
    files.close()
    fs.rmSync(directory, { recursive: true })
  })

  function use(number: number): void {
    const inode = inodes[number]
    if (inode !== undefined) files.write(inode, Buffer.from(`${number}`.padEnd(8)), 8, 0)
  }
  function reads(number: number): string {
    const inode = inodes[number]
    const buffer = Buffer.alloc(8)
    return inode === undefined ? '' : buffer.toString('latin1', 0, files.read(inode, buffer, 0, 8, 0)).trim()
  }

  it('stay open while they are used, however many others are opened once', () => {
    make(20)
    for (let other = 10; other < 200; other++) {
      for (let hot = 0; hot < 5; hot++) use(hot)
      use(other)
    }
    expect(open.size).to.be.at.most(21)
    for (let hot = 0; hot < 5; hot++)
      expect(opened.filter((name) => name === `${hot + 1}`).length).to.equal(1)
  })

  it('are closed and opened again where the process may have fewer descriptors than expected, and lose nothing', () => {
    make(1000)
    allowed = 100
    for (let number = 0; number < 200; number++) use(number)
    for (let number = 0; number < 200; number++) expect(reads(number)).to.equal(`${number}`)
    // Some are left to the rest of the process.
    expect(open.size).to.be.at.most(80)
  })

  it('in use are never closed; when there are no others it is an error', () => {
    make(1000)
    allowed = 11
    for (let number = 0; number < 10; number++) {
      use(number)
      const inode = inodes[number]
      if (inode !== undefined) inode.pins++
    }
    expect(() => use(10)).to.throw('too many open files')
    const [first] = inodes
    if (first !== undefined) first.pins--
    use(10)
    expect([reads(1), reads(10), reads(0)]).to.eql(['1', '10', '0'])
  })
})
