import { expect } from 'chai'
import { newSession, type Session } from '../../coordinator/session.ts'
import { fromDocument, toDocument } from '../../coordinator/store/session-document.ts'
import { stepResults } from './step-results.ts'

describe('the document of a session in the store', () => {
  const request = {
    repository: 'main',
    instance: 'shop',
    backup: 'latest',
    recoverTo: { type: 'latest' as const },
    target: 'db-7',
    options: {},
  }
  const session: Session = {
    ...newSession('shop-1', request, 'backup-1', '2026-11-22T06:00:00.000Z'),
    exportOnly: true,
    stepToRetry: 'recover',
    pausedRecovery: { recoverTo: { type: 'immediate' }, recover: stepResults.recover },
  }

  it('has the keys that other versions of the coordinator read', () => {
    expect(toDocument(session)).to.deep.include({
      id: 'shop-1',
      errand: true,
      redoneFor: 'recover',
      standing: session.pausedRecovery,
    })
    expect(toDocument(session)).not.to.have.any.keys('exportOnly', 'stepToRetry', 'pausedRecovery')
  })

  it('is read back as the same session', () => {
    expect(fromDocument(toDocument(session))).to.deep.equal(session)
  })
})
