/**
 * One of the users of a chaos run: publishes, writes rows with known ids, exports, republishes, unpublishes, and begins
 * again; asks until it gets an answer, and keeps a record of what was committed.
 */
import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import type { CommandBody, CommandReply, CommandType } from '../../../messages/definitions.ts'
import type { SessionView } from '../../../messages/values.ts'
import { connect } from '../../durability/support/load.ts'
import type { Random } from '../../durability/support/random.ts'
import type { Fleet } from '../../support/fleet.ts'
import type { Production } from '../../support/production.ts'
import { judgeHistory, Violation } from './judge.ts'

export interface Counts {
  published: number
  republished: number
  unpublished: number
  rows: number
  exports: number
  retries: number
}

export interface User {
  readonly session: string | undefined
  /** Does one thing at random; whatever is not possible now is left. */
  act(): Promise<void>
  /** Resolves when the session is published, and all its rows are there. @throws Violation */
  settle(seconds: number): Promise<void>
  /** Unpublishes. @throws Violation */
  end(seconds: number): Promise<void>
}

export interface UserOptions {
  readonly fleet: Fleet
  readonly production: Production
  /** Exports go below it. */
  readonly exportsTo: string
  readonly random: Random
  readonly counts: Counts
  readonly log: (text: string) => void
}

export function createUser(options: UserOptions): User {
  const { fleet, production, random, counts, log } = options
  const { database } = production
  let session: string | undefined
  /** COMMIT was answered. */
  let committed = new Set<number>()
  /** COMMIT was sent; nobody knows. */
  let unknown = new Set<number>()
  let lastRow = 0
  let lastExport = 0
  /** Nobody knows whether the rows are still to be there: a republish was asked for. */
  let replacing = false

  /** Asks until there is an answer: the message's id makes the same command of all. */
  async function ask<T extends CommandType>(type: T, body: CommandBody<T>): Promise<CommandReply<T>> {
    const messageId = randomUUID()
    const deadline = Date.now() + ANSWER_MS
    for (;;) {
      try {
        return await fleet.bus.request(type, body, { messageId, timeoutMs: 10_000 })
      } catch (error) {
        if (Date.now() > deadline) throw error
      }
    }
  }

  async function show(id: string): Promise<SessionView> {
    const reply = await ask('session.show', { session: id })
    if (!reply.accepted) throw new Violation(id, `it is not known any more: ${reply.error.message}`)
    return reply.session
  }

  async function publish(): Promise<void> {
    const { stanza } = production
    const reply = await ask('instance.publish', { repository: 'main', instance: stanza, target: 'db-7' })
    // The agents may be away just now.
    if (!reply.accepted) return
    session = reply.session
    counts.published++
    forget()
    log(`publish ${session}`)
  }

  function forget(): void {
    committed = new Set()
    unknown = new Set()
    replacing = false
  }

  /** Commits some rows, as far as the instance lets us. */
  async function write(view: SessionView): Promise<void> {
    if (view.state !== 'published' || replacing) return
    const client = connect(view, database)
    try {
      await client.connect()
      await client.query('CREATE TABLE IF NOT EXISTS ledger (id int PRIMARY KEY)')
      for (let rows = 1 + random.below(30); rows > 0; rows--) {
        const id = ++lastRow
        unknown.add(id)
        await client.query('INSERT INTO ledger VALUES ($1)', [id])
        unknown.delete(id)
        committed.add(id)
        counts.rows++
      }
    } catch {
      // It was hit by a fault: what is committed so far has to be there afterwards.
    } finally {
      await client.end().catch(() => undefined)
    }
  }

  async function exportRows(view: SessionView): Promise<void> {
    const path = `${options.exportsTo}/${view.id}-${++lastExport}`
    await mkdir(options.exportsTo, { recursive: true })
    const reply = await ask('session.export', {
      session: view.id,
      databases: [database],
      tables: ['notes'],
      destination: { type: 'directory', path },
    })
    if (reply.accepted) {
      counts.exports++
      log(`export ${view.id} ${reply.export}`)
    }
  }

  async function republish(view: SessionView): Promise<void> {
    replacing = true
    const reply = await ask('session.republish', { session: view.id, discardChanges: true })
    if (!reply.accepted) {
      replacing = false
      return
    }
    counts.republished++
    forget()
    log(`republish ${view.id}`)
  }

  async function unpublish(view: SessionView): Promise<void> {
    const reply = await ask('session.unpublish', { session: view.id })
    if (!reply.accepted) throw new Violation(view.id, `it cannot be unpublished: ${reply.error.message}`)
    counts.unpublished++
    log(`unpublish ${view.id}`)
  }

  async function check(view: SessionView): Promise<void> {
    const client = connect(view, database)
    await client.connect()
    try {
      const made = await client.query<{ made: boolean }>("SELECT to_regclass('ledger') IS NOT NULL AS made")
      const rows = made.rows[0]?.made
        ? (await client.query<{ id: number }>('SELECT id FROM ledger')).rows.map(({ id }) => id)
        : []
      const found = new Set(rows)
      const lost = [...committed].filter((id) => !found.has(id))
      if (lost.length > 0) {
        throw new Violation(view.id, `${lost.length} committed rows are lost: ${lost.slice(0, 10)}`)
      }
      const foreign = [...found].filter((id) => !committed.has(id) && !unknown.has(id))
      if (foreign.length > 0) throw new Violation(view.id, `nobody wrote the rows ${foreign.slice(0, 10)}`)
      for (const id of found) committed.add(id)
      unknown = new Set()
      const notes = await client.query<{ n: number }>('SELECT count(*)::int AS n FROM notes')
      if (notes.rows[0]?.n !== NOTES) throw new Violation(view.id, `${notes.rows[0]?.n} notes of ${NOTES}`)
    } finally {
      await client.end().catch(() => undefined)
    }
  }

  async function until(
    id: string,
    seconds: number,
    wanted: (view: SessionView) => boolean,
  ): Promise<SessionView> {
    const deadline = Date.now() + seconds * 1000
    for (;;) {
      const view = await show(id)
      if (wanted(view)) return view
      if (view.awaitsRetry) await retry(view)
      if (view.state === 'failed') throw new Violation(id, `it failed: ${JSON.stringify(view.error)}`)
      if (Date.now() > deadline) throw new Violation(id, `it is stuck in the state ${view.state}`)
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }

  async function retry(view: SessionView): Promise<void> {
    await ask('session.retry', { session: view.id })
    counts.retries++
  }

  return {
    get session() {
      return session
    },

    async act() {
      if (session === undefined) return publish()
      const view = await show(session)
      if (view.state === 'failed') throw new Violation(view.id, `it failed: ${JSON.stringify(view.error)}`)
      if (view.state === 'closed') {
        judgeHistory(view)
        session = undefined
        return
      }
      if (view.state === 'unpublishing') return
      if (view.awaitsRetry) return retry(view)
      // What is not published yet is mostly left alone, or nothing would ever be.
      if (view.state !== 'published' && !random.oneIn(12)) return
      const choice = random.below(30)
      if (choice < 23) return write(view)
      if (choice < 26) return view.state === 'published' ? exportRows(view) : undefined
      if (choice < 28) return republish(view)
      return unpublish(view)
    },

    async settle(seconds) {
      if (session === undefined) return
      const deadline = Date.now() + seconds * 1000
      for (;;) {
        const left = (deadline - Date.now()) / 1000
        const view = await until(session, left, ({ state }) => state === 'published' || state === 'closed')
        judgeHistory(view)
        if (view.state === 'closed') return
        try {
          return await check(view)
        } catch (error) {
          // A part may be lost without anybody's having noticed yet.
          if (error instanceof Violation || Date.now() > deadline) throw error
          await new Promise((resolve) => setTimeout(resolve, 500))
        }
      }
    },

    async end(seconds) {
      if (session === undefined) return
      const view = await show(session)
      if (view.state !== 'closed') await unpublish(view)
      judgeHistory(await until(session, seconds, ({ state }) => state === 'closed'))
      session = undefined
    },
  }
}

const ANSWER_MS = 90_000
/** Of the backup and of the archive after it. */
const NOTES = 1100
