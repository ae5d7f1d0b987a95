import { expect } from 'chai'
import type { Announcement } from '../../coordinator/announcements.ts'
import { commandEntry, sessionEntries } from '../../coordinator/audit-entries.ts'
import { AUDIT_ENTRIES } from '../../messages/audit.ts'
import type { CommandDelivery } from '../../messages/bus.ts'
import { type CommandBody, type CommandType, QUERY_TYPES } from '../../messages/definitions.ts'
import { COMMAND_EXAMPLES } from '../../messages/examples.ts'
import { commandDelivery } from './scripted-bus.ts'

const SECRET = 'hunter2'

function delivery<T extends CommandType>(type: T, body: CommandBody<T>): CommandDelivery {
  return { ...commandDelivery(type, body, 'm-1'), userId: 'howdah-client-ops', appId: 'nightly' }
}

describe('an entry of the audit stream', () => {
  it('says who asked for what, and what became of it', () => {
    const { type, body } = commandEntry(
      delivery('instance.publish', {
        ...{ repository: 'prod', instance: 'main', target: 'db-7', reference: 'job-7', port: 5433 },
      }),
      { accepted: true, session: 'main-x7' },
    )
    expect(type).to.equal('audit.command')
    expect(body).to.deep.include({
      ...{ command: 'instance.publish', messageId: 'm-1', outcome: 'accepted', session: 'main-x7' },
      sender: { user: 'howdah-client-ops', application: 'nightly' },
      request: { repository: 'prod', instance: 'main', target: 'db-7', port: 5433 },
      reference: 'job-7',
    })
  })

  it('names the session that a refused command was about, and the error without its details', () => {
    const error = { code: 'session_state', message: 'no', details: [{ code: 'internal', message: 'x' }] }
    const { body } = commandEntry(delivery('session.retry', { session: 'main-x7' }), {
      accepted: false,
      error,
    })
    expect(body).to.deep.include({
      ...{ outcome: 'refused', session: 'main-x7', error: { code: 'session_state', message: 'no' } },
    })
  })

  it('holds no value of a setting, no line of pg_hba.conf and nothing that is not listed', () => {
    const asked = { repository: 'prod', instance: 'main', target: 'db-7' }
    const ofLaterRelease = { token: SECRET, csr: SECRET }
    const published = delivery('instance.publish', {
      ...asked,
      settings: { primary_conninfo: `password=${SECRET}` },
      hba: `host all all all ldap ldapbindpasswd=${SECRET}`,
      export: { destination: { type: 'directory', path: '/out' }, databases: ['a', 'b'] },
    })
    const { body } = commandEntry(
      { ...published, body: { ...published.body, ...ofLaterRelease } } as CommandDelivery,
      { accepted: true, session: 'main-x7' },
    )
    expect(JSON.stringify(body)).not.to.include(SECRET)
    expect(body).to.have.deep.property('request', {
      ...asked,
      ...{ settings: ['primary_conninfo'], hba: true },
      export: { destination: { type: 'directory', path: '/out' }, databases: 2 },
    })
  })

  const changing = (Object.keys(COMMAND_EXAMPLES) as CommandType[]).filter((type) => !QUERY_TYPES.has(type))
  for (const type of changing) {
    it(`matches its schema for ${type}`, () => {
      const { body, reply } = COMMAND_EXAMPLES[type]
      const entry = commandEntry(delivery(type, body as never), reply)
      expect(AUDIT_ENTRIES[entry.type].body.safeParse(entry.body).error).to.equal(undefined)
    })
  }

  it('of a change of state has the id of its announcement, so that it is known again', () => {
    const announcement: Announcement = {
      type: 'session.state',
      number: 1,
      body: {
        ...{ session: 'main-x7', version: 4, at: '2026-11-22T06:00:00.000Z', state: 'disrupted' },
        ...{ previous: 'published', repository: 'prod', instance: 'main', target: 'db-7' },
        ...{ reason: 'gone', error: { code: 'mount_failed', message: 'gone' } },
      },
    }
    const [entry, ...more] = sessionEntries([announcement])
    expect(more).to.deep.equal([])
    expect(entry?.body).to.deep.include({ id: 'main-x7.v4.1', state: 'disrupted', previous: 'published' })
    expect(AUDIT_ENTRIES['audit.session'].body.safeParse(entry?.body).error).to.equal(undefined)
  })
})
