import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { expect } from 'chai'
import { WalUsage, walUsageOf } from '../../agents/target/filesystem/space/wal-usage.ts'

const MIB = 1024 * 1024

describe('the space that WAL uses', () => {
  let milliseconds: number
  let measured: number
  let costs: number
  const make = () => {
    ;[milliseconds, measured, costs] = [0, 0, 0]
    const measure = () => {
      milliseconds += costs
      return ++measured
    }
    return new WalUsage({ measure, now: () => milliseconds })
  }

  it('is that of the files in its directory, which may be missing', () => {
    const directory = mkdtempSync('/tmp/howdah-wal-usage-')
    try {
      const missing = walUsageOf(`${directory}/none`)
      expect([missing.refresh(), missing.bytes]).to.deep.equal([true, 0])
      writeFileSync(`${directory}/000000010000000000000001`, Buffer.alloc(MIB, 1))
      writeFileSync(`${directory}/000000010000000000000002`, Buffer.alloc(MIB, 1))
      const wal = walUsageOf(directory)
      wal.refresh()
      expect(wal.bytes).to.be.within(2 * MIB, 2 * MIB + 64 * 1024)
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  it('is measured again after a tenth of a second', () => {
    const wal = make()
    expect(wal.refresh()).to.equal(true)
    milliseconds += 99
    expect(wal.refresh()).to.equal(false)
    milliseconds += 1
    expect(wal.refresh()).to.equal(true)
    expect(wal.bytes).to.equal(2)
  })

  it('is measured again at once when megabytes of changes were written', () => {
    const wal = make()
    wal.refresh()
    expect(wal.refresh(3 * MIB)).to.equal(false)
    expect(wal.refresh(MIB)).to.equal(true)
    expect(wal.refresh(3 * MIB)).to.equal(false)
  })

  it('is measured less often when that takes long', () => {
    const wal = make()
    costs = 50
    wal.refresh()
    milliseconds += 999
    expect(wal.refresh(100 * MIB)).to.equal(false)
    milliseconds += 1
    expect(wal.refresh()).to.equal(true)
  })
})
