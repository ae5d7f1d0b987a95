import { expect } from 'chai'
import { summarizeCatalog } from '../../agents/mount/catalog/summary.ts'
import { localeFindings, systemLocales } from '../../agents/target/preflight/locales.ts'

describe('The locales of a backup', () => {
  const system = { names: new Set(['de_DE.utf8', 'en_US.utf8']), version: '2.36' }

  it('are found on this system whatever the spelling of the codeset', async () => {
    const { names, version } = await systemLocales()
    expect([...names]).to.include('C')
    expect(version).to.match(/^\d+\.\d+/)
    const databases = [{ name: 'shop', collate: 'de_DE.UTF-8', ctype: 'en_US.UTF8' }]
    expect(localeFindings(summarizeCatalog(databases), system)).to.deep.equal([])
  })

  it('are never missing when they are built in', () => {
    const databases = [{ name: 'shop', collate: 'C', ctype: 'POSIX' }]
    expect(
      localeFindings(summarizeCatalog(databases), { names: new Set(), version: undefined }),
    ).to.deep.equal([])
  })

  it('prevent a publish if no database would accept connections', () => {
    const databases = [{ name: 'shop', collate: 'fr_FR.UTF-8', ctype: 'fr_FR.UTF-8' }]
    const findings = localeFindings(summarizeCatalog(databases), system)
    expect(findings).to.have.length(1)
    expect(findings[0]).to.deep.include({ code: 'locale_missing' })
    expect(findings[0]).not.to.have.property('level')
    expect(findings[0]?.message).to.include('"fr_FR.UTF-8" of the database "shop"')
  })

  it('are a warning if other databases can be used', () => {
    const databases = [
      { name: 'postgres', collate: 'C', ctype: 'C' },
      { name: 'shop', collate: 'fr_FR.UTF-8', ctype: 'C' },
    ]
    const findings = localeFindings(summarizeCatalog(databases), system)
    expect(findings).to.have.length(1)
    expect(findings[0]).to.deep.include({ level: 'warning', code: 'locale_missing' })
  })

  it('lead to a warning if their version differs, except for ICU', () => {
    const databases = [
      {
        name: 'old',
        collate: 'de_DE.UTF-8',
        ctype: 'de_DE.UTF-8',
        provider: 'libc' as const,
        collationVersion: '2.31',
      },
      {
        name: 'same',
        collate: 'de_DE.UTF-8',
        ctype: 'de_DE.UTF-8',
        provider: 'libc' as const,
        collationVersion: '2.36',
      },
      {
        name: 'icu',
        collate: 'de_DE.UTF-8',
        ctype: 'de_DE.UTF-8',
        provider: 'icu' as const,
        collationVersion: '153.14',
      },
    ]
    const findings = localeFindings(summarizeCatalog(databases), system)
    expect(findings.map(({ level }) => level)).to.deep.equal(['warning'])
    expect(findings[0]?.message).to.include('"old"').and.include('2.31').and.not.include('"same"')
  })
})
