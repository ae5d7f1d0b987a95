/**
 * Owns one user of a chaos run: publishes, writes rows, exports, republishes, unpublishes, and begins again. It repeats
 * each command until it gets an answer.
 */
import { mkdir } from 'node:fs/promises'
import type { SessionView } from '../../../messages/values.ts'
import type { Random } from '../../durability/support/random.ts'
import type { Fleet } from '../../support/fleet.ts'
import type { Production } from '../../support/production.ts'
import { judgeHistory, Violation } from './judge.ts'
import { createLedger } from './ledger.ts'
import { createRequests, failed } from './requests.ts'

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
  /** Does one thing at random; what is not possible now is left out. */
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
  let lastExport = 0
  const ledger = createLedger({
    database,
    random,
    onRow: () => {
      counts.rows++
    },
  })

  const { ask, show, retry, until } = createRequests(fleet, () => {
    counts.retries++
  })

  async function publish(): Promise<void> {
    const { stanza } = production
    const reply = await ask('instance.publish', { repository: 'main', instance: stanza, target: 'db-7' })
    // The agents may be away just now.
    if (!reply.accepted) return
    session = reply.session
    counts.published++
    ledger.clear()
    log(`publish ${session}`)
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
    ledger.freeze(true)
    const reply = await ask('session.republish', { session: view.id, discardChanges: true })
    if (!reply.accepted) {
      ledger.freeze(false)
      return
    }
    counts.republished++
    ledger.clear()
    log(`republish ${view.id}`)
  }

  async function unpublish(view: SessionView): Promise<void> {
    const reply = await ask('session.unpublish', { session: view.id })
    if (!reply.accepted) throw new Violation(view.id, `it cannot be unpublished: ${reply.error.message}`)
    counts.unpublished++
    log(`unpublish ${view.id}`)
  }

  return {
    get session() {
      return session
    },

    async act() {
      if (session === undefined) return publish()
      const view = await show(session)
      if (view.state === 'failed') throw failed(view)
      if (view.state === 'closed') {
        judgeHistory(view)
        session = undefined
        return
      }
      if (view.state === 'unpublishing') return
      if (view.awaitsRetry) return retry(view.id)
      // A session that is not published yet is mostly left alone, so that it can get there.
      if (view.state !== 'published' && !random.oneIn(12)) return
      const choice = random.below(30)
      if (choice < 23) return ledger.write(view)
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
          return await ledger.check(view)
        } catch (error) {
          // A part may have failed without having been noticed yet.
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
