/** Owns an operator at this machine: a home directory with keys and OpenSSH's files, and the answers to questions. */
import { execFile } from 'node:child_process'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { parseSshAddress } from '../../coordinator/fleet/ssh/address.ts'
import { connectSsh, type SshConnection } from '../../coordinator/fleet/ssh/connection.ts'
import { hostSettings } from '../../coordinator/fleet/ssh/openssh-configuration.ts'
import { createSecrets, type Prompter, type Secrets } from '../../coordinator/fleet/ssh/secrets.ts'
import { scratchDirectory } from '../support/scratch.ts'

const run = promisify(execFile)

export interface Operator {
  readonly home: string
  /** Every question that was asked, and every note. */
  readonly heard: string[]
  /** Makes a key pair in ~/.ssh. @returns the public key */
  makeKey(
    file: string,
    options?: { readonly type?: string; readonly passphrase?: string; readonly pem?: boolean },
  ): Promise<string>
  writeSsh(file: string, text: string): Promise<void>
  readSsh(file: string): Promise<string>
  /** Connects, and remembers the connection until `remove`. */
  connect(address: string, options?: ConnectionOptions): Promise<SshConnection>
  remove(): Promise<void>
}

export interface ConnectionOptions {
  readonly secrets?: Secrets
  /** Answers in order; undefined: there is no terminal. */
  readonly answers?: readonly (string | boolean)[]
  readonly fingerprint?: string
  readonly jumps?: readonly string[]
  readonly env?: NodeJS.ProcessEnv
  readonly deadlineMs?: number
  readonly keepaliveMs?: number
}

export async function makeOperator(): Promise<Operator> {
  const home = await scratchDirectory('howdah-operator-')
  const ssh = (file: string): string => path.join(home, '.ssh', file)
  await mkdir(ssh(''), { mode: 0o700 })
  const heard: string[] = []
  const connections: SshConnection[] = []
  return {
    ...{ home, heard },
    async makeKey(file, { type = 'ed25519', passphrase = '', pem = false } = {}) {
      const format = pem ? ['-m', 'PEM'] : []
      await run('ssh-keygen', ['-q', '-t', type, '-N', passphrase, ...format, '-f', ssh(file)])
      return readFile(ssh(`${file}.pub`), 'utf8')
    },
    writeSsh: (file, text) => writeFile(ssh(file), text, { mode: 0o600 }),
    readSsh: (file) => readFile(ssh(file), 'utf8'),
    async connect(text, options = {}) {
      const connection = await connectSsh(addressOf(text), {
        jumps: options.jumps?.map(addressOf),
        fingerprint: options.fingerprint,
        settingsOf: (address) =>
          hostSettings(address, { home, user: 'operator', env: options.env ?? {}, files: [ssh('config')] }),
        secrets: options.secrets ?? createSecrets(prompter(options.answers, heard)),
        note: (note) => heard.push(note),
        signal: new AbortController().signal,
        ...(options.deadlineMs !== undefined && { deadlineMs: options.deadlineMs }),
        ...(options.keepaliveMs !== undefined && { keepaliveMs: options.keepaliveMs }),
      })
      connections.push(connection)
      return connection
    },
    async remove() {
      for (const connection of connections) connection.close()
      await rm(home, { recursive: true, force: true })
    },
  }
}

/** Answers questions in order; one that was not expected is an error. */
export function prompter(
  answers: readonly (string | boolean)[] | undefined,
  heard: string[],
): Prompter | undefined {
  if (answers === undefined) return undefined
  const left = [...answers]
  async function answer(question: string): Promise<string | boolean> {
    heard.push(question)
    const next = left.shift()
    if (next === undefined) throw new Error(`nobody expected the question: ${question}`)
    return next
  }
  return {
    secret: async (question) => String(await answer(question)),
    confirm: async (question) => (await answer(question)) === true,
  }
}

function addressOf(text: string) {
  const address = parseSshAddress(text)
  if (address === undefined) throw new Error(`no address: ${text}`)
  return address
}
