/** `howdah doctor`: what it asks, shows and ends with. */
import { expect } from 'chai'
import type { DoctorItem } from '../../messages/definitions.ts'
import { createFakeBus } from './fake-bus.ts'
import { run } from './run.ts'

const KEY = 'f'.repeat(40)
const STORE: DoctorItem = {
  ...{ kind: 'fetched-store', name: KEY, path: `/var/tmp/howdah/fetched/${KEY}` },
  sessions: ['main-abc234', 'shop-abc234'],
  ...{ bytes: 2_000_000_000, checkedBytes: 500_000_000, verdict: 'sound', problems: [] },
}
const CACHE: DoctorItem = {
  ...{
    kind: 'write-cache',
    name: 'main-abc234',
    path: '/var/tmp/howdah/main-abc234',
    sessions: ['main-abc234'],
  },
  ...{ bytes: 1_503_000_000, checkedBytes: 1_503_000_000, verdict: 'damaged' },
  problems: ['/var/tmp/howdah/main-abc234/files/77, which holds 3 changed blocks, is gone'],
}

describe('howdah doctor', () => {
  async function doctor(items: DoctorItem[], args: string[] = [], columns = 100) {
    const asked: unknown[] = []
    const bus = createFakeBus({
      'target.doctor': (body) => {
        asked.push(body)
        return { accepted: true, items }
      },
    })
    const one = run(['doctor', '--target', 'db-7', ...args], {
      bus,
      columns,
      tty: true,
      env: { NO_COLOR: '1' },
    })
    return { status: await one.status, text: one.stdout(), asked }
  }

  it('lists every store with what was checked and what is wrong, and exits with 1 for damage that it did not repair', async () => {
    for (const columns of [60, 120]) {
      const { status, text, asked } = await doctor([CACHE, STORE], ['--time-limit', '30'], columns)
      expect(status).to.equal(1)
      expect(asked).to.deep.equal([{ target: 'db-7', timeLimit: 30 }])
      expect(text).to.match(/write cache +main-abc234 +damaged +1.50 GB/)
      expect(text).to.match(
        /fetched blocks +f+.* +sound +0.50 of 2.00 GB|fetched blocks +f+.* +sound +500 MB of 2.00 GB/,
      )
      expect(text.replaceAll(/\s+/g, ' ')).to.include(`! ${CACHE.problems[0]}`)
      expect(text.split('\n').filter((line) => [...line].length > columns && !line.startsWith('/'))).to.eql(
        [],
      )
    }
  })

  it('exits with 0 when no damage remains', async () => {
    const { status, text } = await doctor([{ ...STORE, verdict: 'mended', problems: ['wrong blocks: 1'] }])
    expect([status, text.includes('! wrong blocks: 1')]).to.eql([0, true])
    expect((await doctor([])).text).to.contain('keeps nothing')
  })

  it('prints the report as one JSON document with --json', async () => {
    const { status, text } = await doctor([CACHE], ['--json'])
    const error = { code: 'cache_unusable', message: `damaged: ${CACHE.path}`, retryable: false }
    expect([status, JSON.parse(text)]).to.eql([1, { items: [CACHE], error }])
    const { status: sound, text: report } = await doctor([STORE], ['--json'])
    expect([sound, JSON.parse(report)]).to.eql([0, { items: [STORE] }])
  })

  it('refuses a time limit outside of 1 to 1500 seconds', async () => {
    for (const limit of ['0', '1501', '2.5', 'long']) {
      expect((await doctor([], ['--time-limit', limit])).status).to.equal(2)
    }
  })
})
