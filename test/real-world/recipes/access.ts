/** Who may log in: superusers of other names, passwords of older kinds, roles and databases with settings of their own. */
import { expect } from 'chai'
import type { Scenario } from '../scenario.ts'

export const access: readonly Scenario[] = [
  {
    name: 'a cluster whose superuser is not called postgres is published, and connects as that one',
    source: 'https://github.com/railwayapp-templates/postgres-ssl/pull/99',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster({ superuser: 'shop_admin' })
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(session.connection?.user).to.equal('shop_admin')
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
    },
  },
]
