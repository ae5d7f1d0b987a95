/** Tickets and the key that signs them. */
import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { loadTicketKey, signTicket, verifyTicket } from '../../agents/dataplane/protocol/ticket.ts'
import { HowdahError } from '../../messages/errors.ts'
import { expectFailure, ticket, ticketKey } from './fixture.ts'

describe('a ticket', () => {
  it('gives its contents to the key that signed it', () => {
    expect(verifyTicket(signTicket(ticket, ticketKey), ticketKey)).to.deep.equal(ticket)
  })

  it('is refused by any other key', () => {
    const text = signTicket(ticket, Buffer.alloc(32, 9))
    expect(() => verifyTicket(text, ticketKey))
      .to.throw(HowdahError)
      .with.property('code', 'unauthorized')
  })

  it('is refused with any character changed', () => {
    const text = signTicket(ticket, ticketKey)
    // The last character holds bits that base64url leaves open.
    for (let at = 0; at < text.length - 1; at++) {
      const changed = `${text.slice(0, at)}${text[at] === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`
      expect(() => verifyTicket(changed, ticketKey), `at ${at}`).to.throw(HowdahError)
    }
  })

  it('is refused when it is no ticket at all', () => {
    for (const text of ['', '.', 'howdah1..', 'howdah1.e30.', 'x'.repeat(100_000)]) {
      expect(() => verifyTicket(text, ticketKey)).to.throw(HowdahError)
    }
  })
})

describe('the ticket key', () => {
  let directory = ''
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'howdah-ticket-'))
  })
  afterEach(() => rm(directory, { recursive: true }))

  it('is made once, for its owner only, also by several at a time', async () => {
    const path = join(directory, 'state', 'ticket.key')
    const keys = await Promise.all(Array.from({ length: 8 }, () => loadTicketKey(path)))
    expect(new Set(keys.map((key) => key.toString('hex'))).size).to.equal(1)
    expect(keys[0]?.length).to.equal(32)
    expect((await stat(path)).mode & 0o777).to.equal(0o600)
    expect((await loadTicketKey(path)).equals(keys[0] ?? Buffer.alloc(0))).to.equal(true)
  })

  it('is refused when others may read it, or it is too short', async () => {
    const path = join(directory, 'ticket.key')
    await writeFile(path, Buffer.alloc(32), { mode: 0o600 })
    await chmod(path, 0o644)
    await expectFailure(loadTicketKey(path), 'configuration')
    await rm(path)
    await writeFile(path, Buffer.alloc(31), { mode: 0o600 })
    await expectFailure(loadTicketKey(path), 'configuration')
  })
})
