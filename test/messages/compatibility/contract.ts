/** Every message of the contract by name, with its schema, and the messages that were recorded of releases. */
import { readdirSync, readFileSync } from 'node:fs'
import type { z } from 'zod'
import { AGENT_COMMANDS, COMMANDS, EVENTS } from '../../../messages/definitions.ts'
import { STEP_RESULTS, UndoResult } from '../../../messages/steps.ts'

/** Messages by name; `older` is what the release sends itself, `newer` what it takes from a newer one. */
export interface Recording {
  readonly [message: string]: { readonly older: readonly unknown[]; readonly newer?: unknown }
}

interface Message {
  readonly schema: z.ZodType
  /** Strict: nothing of a newer release is taken. */
  readonly strict?: boolean
}

type Definitions = Readonly<Record<string, { readonly body: z.ZodType; readonly reply?: z.ZodType }>>

function messagesOf(definitions: Definitions, strict = false): [string, Message][] {
  return Object.entries(definitions).flatMap(([type, { body, reply }]): [string, Message][] => [
    [type, { schema: body, strict }],
    ...(reply ? [[`${type}.reply`, { schema: reply }] as [string, Message]] : []),
  ])
}

/** The names of some queries of agents are those of commands or events. */
const of = (family: string, messages: [string, Message][]): [string, Message][] =>
  messages.map(([name, message]) => [`${family} ${name}`, message])

export const MESSAGES: ReadonlyMap<string, Message> = new Map([
  ...of('client', messagesOf(COMMANDS, true)),
  ...of('agent', messagesOf(AGENT_COMMANDS)),
  ...of('event', messagesOf(EVENTS)),
  ...Object.entries(STEP_RESULTS).map(([step, schema]): [string, Message] => [`result ${step}`, { schema }]),
  ['result undo', { schema: UndoResult }],
])

const DIRECTORY = new URL('./', import.meta.url)

/** Recordings by the name of their file. */
export function recordings(): Map<string, Recording> {
  const files = readdirSync(DIRECTORY).filter((name) => name.endsWith('.json'))
  return new Map(
    files.map((name) => [name, JSON.parse(readFileSync(new URL(name, DIRECTORY), 'utf8')) as Recording]),
  )
}

export function recordingFile(version: number): URL {
  return new URL(`contract-${version}.json`, DIRECTORY)
}
