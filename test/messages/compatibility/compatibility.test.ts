import { expect } from 'chai'
import { CONTRACT_VERSION, OLDEST_CONTRACT_VERSION } from '../../../messages/definitions.ts'
import { MESSAGES, recordingFile, recordings } from './contract.ts'

describe('the messages of released contracts', () => {
  const recorded = recordings()

  it('are recorded for every version that is understood, up to the present one with all its messages', () => {
    const names = [...recorded.keys()]
    for (let version = OLDEST_CONTRACT_VERSION; version <= CONTRACT_VERSION; version++) {
      expect(names).to.include(recordingFile(version).pathname.split('/').at(-1))
    }
    const present = recorded.get(`contract-${CONTRACT_VERSION}.json`) ?? {}
    expect(Object.keys(present), 'node test/messages/compatibility/record.ts').to.include.members([
      ...MESSAGES.keys(),
    ])
  })

  for (const [file, messages] of recorded) {
    describe(file, () => {
      for (const [name, { older, newer }] of Object.entries(messages)) {
        it(`${name} is understood, and nothing of it is lost`, () => {
          const schema = MESSAGES.get(name)?.schema
          if (!schema) throw new Error(`there is no message ${name} any more`)
          for (const message of older) expect(schema.parse(message)).to.deep.equal(message)
        })

        if (newer !== undefined) {
          it(`${name} of a newer release is understood`, () => {
            const result = MESSAGES.get(name)?.schema.safeParse(newer)
            expect(result?.error?.issues ?? []).to.deep.equal([])
          })
        }
      }
    })
  }

  it('are refused from clients with what nobody knows', () => {
    const command = { repository: 'main', instance: 'shop', target: 'db-7', ofANewerRelease: 1 }
    expect(MESSAGES.get('client instance.publish')?.schema.safeParse(command).success).to.equal(false)
  })
})
