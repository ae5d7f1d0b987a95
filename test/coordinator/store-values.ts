/** Values for tests of the stores. */
import type { SessionRequest } from '../../coordinator/session.ts'
import type { NewAnswer } from '../../coordinator/store/store.ts'
import type { AuditEntry } from '../../messages/audit.ts'
import type { AgentView } from '../../messages/values.ts'

export const request: SessionRequest = {
  repository: 'main',
  instance: 'shop',
  backup: 'latest',
  recoverTo: { type: 'latest' },
  target: 'db-7',
  options: {},
}

export const agentView: AgentView = {
  kind: 'target',
  name: 'db-7',
  online: true,
  lastSeen: '2026-11-22T06:00:00.000Z',
  version: '0.1.0',
  host: 'db-7.example',
}

export function auditEntry(id: string): AuditEntry {
  return {
    type: 'audit.command',
    body: {
      ...{ id, at: '2026-11-22T06:00:00.000Z', command: 'session.retry', messageId: 'm1' },
      ...{ sender: { user: 'test' }, outcome: 'accepted', request: {} },
    },
  }
}

/** Its entry in the audit stream has the id of its message. */
export function newAnswer(messageId: string, reply: object): NewAnswer {
  return {
    ...{ sender: 'user test', messageId, type: 'session.retry', bodyHash: 'hash', reply },
    audit: auditEntry(messageId),
  }
}
