import { expect } from 'chai'
import {
  dependentName,
  destinationDatabaseName,
  renameStatements,
  tableRenames,
} from '../../agents/target/export/dump/renames.ts'
import type { ExportRequest } from '../../messages/exports.ts'

const TABLES = [
  { schema: 'public', name: 'orders' },
  { schema: 'old', name: 'bills' },
  { schema: 'new', name: 'bills' },
]
const request = (...rename: [string, string][]): ExportRequest => ({
  destination: { type: 'postgres', host: 'db' },
  rename: rename.map(([from, to]) => ({ from, to })),
})

describe('Renames in an export', () => {
  it('distinguish databases from tables', () => {
    const both = request(['shop', 'shop_old'], ['orders', 'orders_old'])
    expect(destinationDatabaseName('shop', both)).to.equal('shop_old')
    expect(destinationDatabaseName('crm', both)).to.equal('crm')
    expect(tableRenames('shop', both, TABLES)).to.deep.equal([
      { from: { schema: 'public', name: 'orders' }, to: { schema: 'public', name: 'orders_old' } },
    ])
  })

  it('move a table to another schema when its new name has one', () => {
    const [rename] = tableRenames('shop', request(['public.orders', 'rescued.orders']), TABLES)
    expect(rename && renameStatements(rename, [])).to.deep.equal([
      'CREATE SCHEMA IF NOT EXISTS "rescued"',
      'ALTER TABLE "public"."orders" SET SCHEMA "rescued"',
    ])
  })

  it('are refused for a name that matches no table of the export, or several', () => {
    expect(() => tableRenames('shop', request(['nothing', 'x']), TABLES)).to.throw(
      /neither the database nor a table/,
    )
    expect(() => tableRenames('shop', request(['bills', 'x']), TABLES)).to.throw(/old\.bills, new\.bills/)
  })

  it('rename the dependents of a table too, within the limits of PostgreSQL', () => {
    expect(dependentName('orders_pkey', 'orders', 'orders_old')).to.equal('orders_old_pkey')
    expect(dependentName('by_day', 'orders', 'orders_old')).to.equal('orders_old_by_day')
    const long = dependentName('orders_pkey', 'orders', 'ü'.repeat(31))
    expect(Buffer.byteLength(long)).to.be.at.most(63)
    expect(long).to.match(/ü_pkey$/)
  })
})
