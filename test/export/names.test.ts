import { expect } from 'chai'
import {
  connectionString,
  fileNameOf,
  literal,
  patternRegexes,
  quoted,
} from '../../agents/target/export/dump/names.ts'

describe('Names in an export', () => {
  it('become a safe file name for any database', () => {
    expect(['shop', 'v1.2', '..', '.hidden', 'a/b', 'grün', 'a b'].map(fileNameOf)).to.deep.equal([
      'shop',
      'v1.2',
      '%2E%2E',
      '%2Ehidden',
      'a%2Fb',
      'gr%C3%BCn',
      'a%20b',
    ])
  })

  it('are quoted for SQL and for libpq', () => {
    expect(quoted('Old "Bills')).to.equal('"Old ""Bills"')
    expect(literal("it's \\")).to.equal(" E'it''s \\\\'")
    expect(connectionString({ dbname: "it's \\", user: undefined })).to.equal("dbname='it\\'s \\\\'")
  })

  it('match like patterns of pg_dump', () => {
    expect(patternRegexes('Orders*')).to.deep.equal({ schema: undefined, name: '^(orders.*)$' })
    expect(patternRegexes('app."Old ""B*ll"')).to.deep.equal({ schema: '^(app)$', name: '^(Old "B\\*ll)$' })
    expect(patternRegexes('shop.a?p.x$')).to.deep.equal({ schema: '^(a.p)$', name: '^(x\\$)$' })
    expect(patternRegexes('"a.b"')).to.deep.equal({ schema: undefined, name: '^(a\\.b)$' })
  })
})
