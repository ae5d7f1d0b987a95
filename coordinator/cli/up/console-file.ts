/** `console.json` in the state directory: where the console of the private RabbitMQ is, and who may log in. */
import { rmSync } from 'node:fs'
import path from 'node:path'
import { writePrivate } from './state-directory.ts'

export interface ConsoleAddress {
  /** Without credentials. */
  readonly url: string
  /** The file that has them. */
  readonly file: string
}

/** Writes it, readable by its owner only. @param managementUrl with credentials */
export function writeConsoleFile(state: string, managementUrl: string): ConsoleAddress {
  const { origin: url, username, password } = new URL(managementUrl)
  const file = fileIn(state)
  writePrivate(file, { url, user: decodeURIComponent(username), password: decodeURIComponent(password) })
  return { url, file }
}

/** Also one that an earlier process left behind. */
export function removeConsoleFile(state: string): void {
  rmSync(fileIn(state), { force: true })
}

const fileIn = (state: string): string => path.join(state, 'console.json')
