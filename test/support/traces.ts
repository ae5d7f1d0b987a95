/**
 * Owns what the sessions of one fleet have on this machine and in its broker, and the check that all of it is gone.
 * Ignores what belongs to others on the same machine.
 */
import { existsSync, readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from 'amqplib'
import type { Fleet } from './fleet.ts'
import {
  added,
  type Inventory,
  listeningPorts,
  mountInventory,
  processes,
  sharedMemoryExists,
  sharedMemoryOf,
} from './inventory.ts'

export interface Traces {
  /** Records what only the running processes of a session show: its ports and shared memory. */
  remember(session: string): void
  /** Waits for what is just ending. @throws Error that lists what exists now and did not at the beginning */
  expectNone(): Promise<void>
  close(): Promise<void>
}

/** Processes that are ending may take a moment. */
const GRACE_MS = 5_000
const QUEUES = [
  'howdah.target.db-7',
  'howdah.mount.backup-1',
  'howdah.coordinator',
  'howdah.dead-letters',
] as const

/** Compares with what exists now. */
export async function watchTraces(fleet: Fleet): Promise<Traces> {
  const sharedMemory = new Map<string, string>()
  const ports = new Set<number>()
  const sessions = new Set<string>()
  const connection = await connect(fleet.brokerUrl)
  const before = await look()

  async function look(): Promise<Inventory> {
    const found = new Map<string, string>()
    for (const { pid, command, startTicks } of processes()) {
      if (pid !== process.pid && command.some(belongsToFleet))
        found.set(`${pid} ${startTicks}`, `process ${pid}: ${command.join(' ').slice(0, 100)}`)
    }
    for (const [key, mount] of mountInventory()) if (mount.includes(fleet.mountRoot)) found.set(key, mount)
    for (const root of [fleet.mountRoot, fleet.cacheRoot]) {
      const names = existsSync(root) ? readdirSync(root) : []
      for (const name of names) if (name !== 'fetched') found.set(`${root}/${name}`, `${root}/${name}`)
    }
    for (const [key, what] of sharedMemory) if (sharedMemoryExists(key)) found.set(key, what)
    const listening = listeningPorts()
    for (const port of ports) if (listening.has(port)) found.set(`port ${port}`, `port ${port} is taken`)
    const channel = await connection.createChannel()
    for (const queue of QUEUES) {
      const { messageCount } = await channel.checkQueue(queue)
      if (messageCount > 0) found.set(queue, `${messageCount} messages in ${queue}`)
    }
    await channel.close()
    return found
  }

  /** Command lines have the directories, and titles of processes have the session. */
  function belongsToFleet(word: string): boolean {
    if (word.includes(fleet.mountRoot) || word.includes(fleet.cacheRoot)) return true
    return [...sessions].some(
      (id) => word.trim() === `howdah mount ${id}` || word.startsWith(`postgres: howdah-${id}:`),
    )
  }

  return {
    remember(session) {
      sessions.add(session)
      const own = processes().filter(({ command }) => command.some((word) => word.includes(session)))
      for (const [key, what] of sharedMemoryOf(new Set(own.map(({ pid }) => pid))))
        sharedMemory.set(key, what)
      for (const word of own.flatMap(({ command }) => command)) {
        const port = /^port=(\d+)$/.exec(word)?.[1]
        if (port !== undefined) ports.add(Number(port))
      }
    },
    async expectNone() {
      const deadline = Date.now() + GRACE_MS
      for (;;) {
        const left = added(before, await look())
        if (left.length === 0) return
        if (Date.now() > deadline) throw new Error(`left behind:\n    ${left.join('\n    ')}`)
        await sleep(50)
      }
    },
    async close() {
      await connection.close()
    },
  }
}
