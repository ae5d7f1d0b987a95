import { expect } from 'chai'
import { formatBytes, formatBytesRoughly } from '../../messages/format-bytes.ts'

describe('sizes for people', () => {
  it('have three digits and a decimal unit', () => {
    const sizes = [0, 999, 1000, 12_345, 999_499, 999_500, 1_503_000_000, 5e15].map(formatBytes)
    expect(sizes).to.deep.equal([
      '0 B',
      '999 B',
      '1.00 kB',
      '12.3 kB',
      '999 kB',
      '1.00 MB',
      '1.50 GB',
      '5.00 PB',
    ])
  })

  it('keep the largest unit beyond a thousand of it', () => {
    expect(formatBytes(12_345e15)).to.equal('12345 PB')
  })

  it('have fewer digits where they are estimates', () => {
    expect([0, 1500, 20_000_000, 999_900_000].map(formatBytesRoughly)).to.deep.equal([
      '0 B',
      '1.5 kB',
      '20 MB',
      '1.0 GB',
    ])
  })
})
