import { expect } from 'chai'
import { summarizeCatalog } from '../../agents/mount/catalog/summary.ts'
import { CatalogSummary } from '../../messages/steps.ts'

describe('the catalog of a backup in sum', () => {
  const locale = { collate: 'en_US.UTF-8', ctype: 'en_US.UTF-8', provider: 'libc' as const }
  const tenants = Array.from({ length: 5000 }, (_, index) => ({
    name: `tenant_${index}`,
    ...locale,
    collationVersion: '2.36',
    extensions: ['plpgsql', ...(index % 2 === 0 ? ['postgis'] : [])],
  }))

  it('has an entry for each locale and each extension, however many databases there are', () => {
    const summary = summarizeCatalog([...tenants, { name: 'old', collate: 'C', ctype: 'C' }])
    const named = [0, 1, 2, 3, 4].map((index) => `tenant_${index}`)
    expect(summary).to.deep.equal({
      databases: 5001,
      locales: [
        { ...locale, collationVersion: '2.36', databases: 5000, named },
        { collate: 'C', ctype: 'C', databases: 1, named: ['old'] },
      ],
      extensions: [
        { name: 'plpgsql', databases: 5000, named },
        { name: 'postgis', databases: 2500, named: [0, 2, 4, 6, 8].map((index) => `tenant_${index}`) },
      ],
    })
    expect(CatalogSummary.parse(summary)).to.deep.equal(summary)
  })

  it('has a bounded size, and says what it leaves out', () => {
    const odd = tenants.map((one, index) => ({
      ...one,
      name: one.name.padEnd(63, 'x'),
      collate: `locale_${index}`,
      extensions: [`extension_${index}`],
    }))
    const summary = summarizeCatalog(odd)
    expect(summary).to.include({ databases: 5000, omitted: 4900 + 4800 })
    expect(JSON.stringify(summary).length).to.be.lessThan(64 * 1024)
  })
})
