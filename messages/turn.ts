/**
 * The turns of active coordinators: each one that becomes active leaves the name of its turn in a queue, and in its store.
 * Whose store does not know the last turn at the broker works with a copy that is behind: one of two copies of a store that
 * are both used, or one that was restored from a backup. Owns the queue, which holds the last turn only.
 */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import type { ConfirmChannel } from 'amqplib'
import { z } from 'zod'
import { declareQueue } from './declare.ts'
import { COORDINATOR_TURN } from './topology.ts'

/** What the store remembers of turns. */
export interface TurnRecord {
  /** Ids of the turns that are known: the last one that began with this store, and the one before it at the broker. */
  turns(): Promise<readonly string[]>
  saveTurns(turns: readonly string[]): Promise<void>
}

const Turn = z.object({ id: z.string(), host: z.string(), beganAt: z.string() })
export type Turn = z.infer<typeof Turn>

/** The last turn at the broker, if the store does not know it. Nothing changes. */
export async function strangeTurn(channel: ConfirmChannel, record: TurnRecord): Promise<Turn | undefined> {
  await declareQueue(channel, COORDINATOR_TURN)
  const message = await channel.get(COORDINATOR_TURN.name)
  if (!message) return undefined
  channel.nack(message, false, true)
  const last = turnOf(message.content)
  return last && !(await record.turns()).includes(last.id) ? last : undefined
}

/**
 * Begins a turn, to be called by the only coordinator that holds the lease. A crash at any moment leaves a turn at the broker
 * that the store knows.
 * @returns the last turn, if the store did not know it
 */
export async function beginTurn(channel: ConfirmChannel, record: TurnRecord): Promise<Turn | undefined> {
  await declareQueue(channel, COORDINATOR_TURN)
  const message = await channel.get(COORDINATOR_TURN.name)
  const last = message ? turnOf(message.content) : undefined
  const isStrange = last !== undefined && !(await record.turns()).includes(last.id)
  const turn: Turn = { id: randomUUID(), host: hostname(), beganAt: new Date().toISOString() }
  await record.saveTurns([turn.id, ...(last ? [last.id] : [])])
  channel.sendToQueue(COORDINATOR_TURN.name, Buffer.from(JSON.stringify(turn)), { persistent: true })
  await channel.waitForConfirms()
  if (message) channel.ack(message)
  return isStrange ? last : undefined
}

function turnOf(content: Buffer): Turn | undefined {
  try {
    return Turn.parse(JSON.parse(content.toString()))
  } catch {
    return undefined
  }
}
