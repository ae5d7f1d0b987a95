/** One example of every public message, for the AsyncAPI document. A test holds each against its schema. */
import type { AuditEntry, AuditEntryType } from './audit.ts'
import type { CommandBody, CommandReply, CommandType, EventBody, SessionEventType } from './definitions.ts'
import type { SessionSummary } from './session-list.ts'
import type { AgentView, Connection, SessionView, Usage } from './values.ts'

type Commands = { [T in CommandType]: { readonly body: CommandBody<T>; readonly reply: CommandReply<T> } }
type Events = { [T in SessionEventType]: EventBody<T> }

const SESSION = 'main-x7f3k2'
const AT = '2026-11-22T06:30:04.512Z'
const tags = { reference: 'nightly-4711', labels: { team: 'billing' } }
const place = { repository: 'prod', instance: 'main', target: 'db-7' }
const ofSession = { session: SESSION, ...tags }
const accepted = { accepted: true, session: SESSION } as const

const connection: Connection = {
  host: '/var/tmp/howdah/main-x7f3k2/run',
  port: 54320,
  socketDirectory: '/var/tmp/howdah/main-x7f3k2/run',
  user: 'postgres',
}

const usage: Usage = {
  fetchedBytes: 73_400_320,
  totalBytes: 1_610_612_736,
  cacheBytes: 20_971_520,
  changedBytes: 4_194_304,
  quotaBytes: null,
}

const summary: SessionSummary = {
  ...{ id: SESSION, version: 9, state: 'published', ...place, backup: '20261122-060000F' },
  ...{ recoverTo: { type: 'latest' }, ...tags, messageId: 'nightly-4711' },
  ...{ createdAt: '2026-11-22T06:30:02.101Z', updatedAt: AT, connection, usage },
  mountPoint: '/tmp/howdah/main-x7f3k2',
  writeCache: { path: '/var/tmp/howdah/main-x7f3k2', bytes: 20_971_520 },
}

const view: SessionView = {
  ...summary,
  ...{ steps: [], warnings: [] },
  history: [{ number: 1, at: '2026-11-22T06:30:02.101Z', type: 'command', text: 'publish main of prod' }],
}

const agent: AgentView = {
  ...{ kind: 'target', name: 'db-7', online: true, lastSeen: AT, version: '0.1.0', host: 'db-7.example' },
  postgresVersions: ['15', '17'],
}

const step = { ...ofSession, step: 'recover', direction: 'run', sequence: 4 } as const

const recoverTo = { type: 'time', value: '2026-11-22T07:30:00+01:00' } as const

const REQUEST = '-----BEGIN CERTIFICATE REQUEST-----\n…\n-----END CERTIFICATE REQUEST-----\n'
const CERTIFICATE = '-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n'

export const COMMAND_EXAMPLES: Commands = {
  'instance.publish': { body: { ...place, recoverTo, expiresIn: 14_400, ...tags }, reply: accepted },
  'instance.check': {
    body: place,
    reply: {
      accepted: true,
      report: {
        backup: '20261122-060000F',
        findings: [
          {
            level: 'error',
            code: 'port_taken',
            message: 'the port 5433 is in use',
            retryable: false,
            field: 'port',
          },
        ],
        estimate: { fetchBytes: 73_400_320, cacheBytes: 20_971_520, freeBytes: 107_374_182_400 },
      },
    },
  },
  'session.unpublish': { body: { session: SESSION }, reply: accepted },
  'session.republish': { body: { session: SESSION, discardChanges: true }, reply: accepted },
  'session.retry': { body: { session: SESSION }, reply: accepted },
  'session.cancel': { body: { session: SESSION }, reply: accepted },
  'session.promote': { body: { session: SESSION }, reply: accepted },
  'session.advance': { body: { session: SESSION, recoverTo }, reply: accepted },
  'session.export': {
    body: {
      session: SESSION,
      databases: ['app'],
      tables: ['sales.orders'],
      destination: { type: 'directory', path: '/srv/rescue' },
    },
    reply: { ...accepted, export: 'e1' },
  },
  'session.extend': { body: { session: SESSION, expiresIn: 3_600 }, reply: accepted },
  'session.forget': { body: { session: SESSION }, reply: accepted },
  'session.adopt': { body: { session: SESSION, target: 'db-7' }, reply: accepted },
  'session.list': {
    body: { labels: { team: 'billing' }, changedSince: '2026-11-22T06:00:00Z', all: true, limit: 1 },
    reply: {
      ...{
        accepted: true,
        sessions: [summary],
        more: true,
        cursor: 'WyIyMDI2LTExLTIyVDA2OjMwOjAyLjEwMVoiLCJtYWluIl0',
      },
      targets: [{ target: 'db-7', sessions: 2, cacheBytes: 41_943_040 }],
    },
  },
  'session.show': { body: { session: SESSION }, reply: { accepted: true, session: view } },
  'inventory.list': {
    body: { repository: 'prod' },
    reply: {
      accepted: true,
      repositories: [
        {
          ...{ repository: 'prod', format: 'pgbackrest', mountAgent: 'backup-1' },
          instances: [
            {
              instance: 'main',
              backups: [{ label: '20261122-060000F', type: 'full', postgresVersion: '15' }],
            },
          ],
        },
      ],
    },
  },
  'target.doctor': { body: { target: 'db-7' }, reply: { accepted: true, items: [] } },
  'agent.list': { body: {}, reply: { accepted: true, agents: [agent] } },
  'agent.certify': {
    body: { kind: 'mount', name: 'backup-1', csr: REQUEST, addresses: ['backup-1.example', '10.0.0.5'] },
    reply: { accepted: true, certificate: CERTIFICATE, ca: CERTIFICATE },
  },
  'agent.invite': {
    body: {
      ...{ kind: 'target', name: 'db-7', invitation: '0123456789abcdef', csr: REQUEST, ttlSeconds: 900 },
    },
    reply: { accepted: true, certificate: CERTIFICATE, ca: CERTIFICATE, expiresAt: AT },
  },
  'agent.join': {
    body: { csr: REQUEST },
    reply: { accepted: true, certificate: CERTIFICATE, ca: CERTIFICATE },
  },
  'agent.joined': { body: {}, reply: { accepted: true } },
  'agent.revoke': { body: { kind: 'target', name: 'db-6' }, reply: { accepted: true, sessions: [SESSION] } },
  'agent.forget': { body: { kind: 'target', name: 'db-6' }, reply: { accepted: true, sessions: [] } },
}

/** Of any command that is refused. */
export const REFUSAL_EXAMPLE = {
  accepted: false,
  error: {
    ...{ code: 'unknown_target', message: 'no target "db-9"; there are db-7, db-8', field: 'target' },
    retryable: false,
  },
} as const

export const EVENT_EXAMPLES: Events = {
  'session.state': {
    ...{ ...ofSession, version: 9, at: AT, state: 'published', previous: 'recovering', ...place },
    connection,
  },
  'session.warning': {
    ...{ ...ofSession, version: 12, about: 'quota', level: 'low', at: AT },
    message: 'The changes take 8.1 GB of the quota of 10 GB (81 %).',
  },
  'session.step-started': step,
  'session.step-progress': {
    ...step,
    detail: 'replaying WAL',
    bytesDone: 16_777_216,
    bytesTotal: 67_108_864,
  },
  'session.step-done': step,
  'session.step-failed': {
    ...step,
    error: { code: 'wal_missing', message: 'the archive lacks 000000010000000000000007', retryable: false },
  },
  'session.usage': { ...ofSession, usage },
  'session.changes': { ...ofSession, changes: { changed: true, databases: ['app'] } },
  'session.findings': {
    ...ofSession,
    warnings: ['The subscription "from_prod" of the database app is disabled.'],
  },
  'session.reachability': {
    ...ofSession,
    reachable: false,
    since: AT,
    failedReads: 0,
    reason: 'connect ETIMEDOUT',
  },
  'session.lost': { ...ofSession, what: 'postgres', reason: 'the postmaster has ended' },
  'session.damage': {
    ...{ ...ofSession, repository: 'prod', instance: 'main', backup: '20261122-060000F' },
    ...{ file: 'data/base/16384/16397', block: 12, what: 'the checksum of the page is wrong' },
  },
}

export const AUDIT_EXAMPLES: { [T in AuditEntryType]: Extract<AuditEntry, { type: T }>['body'] } = {
  'audit.command': {
    ...{ id: '5f0c1c6e-6a0f-4f9a-9f43-0d7c2f5d1e77', at: AT, command: 'instance.publish' },
    ...{ messageId: 'nightly-4711', sender: { user: 'howdah-client-ops', application: 'nightly' } },
    ...{ outcome: 'accepted', session: SESSION, request: { ...place, recoverTo }, ...tags },
  },
  'audit.session': {
    ...{ id: `${SESSION}.v9.0`, at: AT, session: SESSION, version: 9 },
    ...{ state: 'published', previous: 'recovering', ...place, ...tags },
  },
}
