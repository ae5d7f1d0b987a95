import { expect } from 'chai'
import { locationDirectory } from '../../agents/target/tablespaces/location-directory.ts'
import { CALLER, errnoOf, type Fixture, makeFixture } from './support/engine-fixture.ts'
import { memorySource } from './support/memory-source.ts'

describe('links of tablespaces in the mounted file system', () => {
  let fs: Fixture
  let links: number

  beforeEach(async () => {
    fs = await makeFixture(
      memorySource({ 'data/PG_VERSION': Buffer.from('15\n'), 'tblspc/16385/PG_15/1/1': Buffer.from('x') }),
    )
    links = await fs.ino('data/pg_tblspc')
  })
  afterEach(() => fs.remove())

  const targetOf = async (path: string) => fs.engine.readlink(await fs.ino(path))

  it('point to the directory that stands for a location in the WAL', async () => {
    const directory = locationDirectory('/srv/ts2')
    fs.engine.mkdir(await fs.ino('tblspc'), directory, 0o700, CALLER)
    fs.engine.symlink(links, '16390', '/srv/ts2', CALLER)
    fs.engine.symlink(links, '16391', '/srv/ts2', CALLER)
    expect(await targetOf('data/pg_tblspc/16390')).to.equal(`../../tblspc/${directory}`)
    expect(await targetOf('data/pg_tblspc/16391')).to.equal(`../../tblspc/${directory}`)
  })

  it('point to a tablespace of the backup, wherever the mount is', async () => {
    fs.engine.unlink(links, '16385')
    fs.engine.symlink(links, '16385', '/somewhere/else/tblspc/16385', CALLER)
    expect(await targetOf('data/pg_tblspc/16385')).to.equal('../../tblspc/16385')
  })

  it('cannot point anywhere else, however they are made', async () => {
    for (const target of ['/srv/ts2', '../../../../srv', '/srv/tblspc/16390', '/srv/tblspc/..'])
      expect(await errnoOf(() => fs.engine.symlink(links, '16390', target, CALLER)), target).to.equal('EPERM')
    const data = await fs.ino('data')
    fs.engine.symlink(data, 'prepared', '/srv/ts2', CALLER)
    expect(await errnoOf(() => fs.engine.rename(data, 'prepared', links, '16390', 'replace'))).to.equal(
      'EPERM',
    )
    expect(await errnoOf(() => fs.engine.rename(links, '16385', data, 'prepared', 'exchange'))).to.equal(
      'EPERM',
    )
    const prepared = await fs.ino('data/prepared')
    expect(await errnoOf(() => fs.engine.link(prepared, links, '16390'))).to.equal('EPERM')
    expect(await fs.names('data/pg_tblspc')).to.deep.equal(['16385'])
  })
})
