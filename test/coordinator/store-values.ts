/** Values for tests of the stores. */
import type { SessionRequest } from '../../coordinator/session.ts'
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
