import { expect } from 'chai'
import {
  type Feature,
  incompatibility,
  isUnderstood,
  neededVersion,
} from '../../messages/contract-version.ts'
import { OLDEST_CONTRACT_VERSION } from '../../messages/definitions.ts'

describe('the version of the contract', () => {
  const range = { oldest: 2, newest: 4 }
  const agent = { kind: 'target', name: 'db-7', host: 'db-7.example', version: '0.1.0' }

  it('is understood within a range, as a number or as text', () => {
    for (const version of [2, 3, 4, '2', '4'])
      expect(isUnderstood(version, range), `${version}`).to.equal(true)
    for (const version of [1, 5, 2.5, '1', '5', '2.0', '', 'two', undefined, null, true, {}]) {
      expect(isUnderstood(version, range), `${version}`).to.equal(false)
    }
  })

  it('that a message needs is the oldest, unless it uses something that came later', () => {
    const features: Feature[] = [
      { since: 3, used: (type) => type === 'step.run' },
      { since: 4, used: (_, body) => (body as { limit?: number }).limit !== undefined },
    ]
    expect(neededVersion('step.undo', {}, features)).to.equal(OLDEST_CONTRACT_VERSION)
    expect(neededVersion('step.run', {}, features)).to.equal(3)
    expect(neededVersion('step.run', { limit: 1 }, features)).to.equal(4)
  })

  it('of an agent that is too old is told with its name, its release and what to do', () => {
    expect(incompatibility({ ...agent, contract: range }, 4)).to.equal(undefined)
    expect(incompatibility(agent, 2)).to.equal(
      'the target agent "db-7" on db-7.example runs Howdah 0.1.0 with contract 1; this needs 2: upgrade the agent',
    )
  })

  it('of an agent that is too new for its coordinator is told as that', () => {
    const newer = { ...agent, version: '9.0.0', contract: { oldest: 8, newest: 9 } }
    expect(incompatibility(newer, 2)).to.match(/runs Howdah 9\.0\.0 .* upgrade the coordinator$/)
  })
})
