/** Whether a server is the one it should be: its key against known_hosts, a fingerprint, or the operator's word. */
import { randomBytes } from 'node:crypto'
import { appendFileSync, mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import {
  fingerprintOf,
  hasFingerprint,
  hashedHostEntry,
  hostEntry,
  type KnownHostLine,
  linesOfHost,
  signaturesOf,
  typeOfKey,
} from '../../../config/ssh/known-hosts.ts'
import { HowdahError } from '../../../messages/errors.ts'
import type { HostSettings } from './openssh-configuration.ts'
import type { Secrets } from './secrets.ts'

type KeySettings = Pick<
  HostSettings,
  | 'host'
  | 'alias'
  | 'port'
  | 'hostKeyAlias'
  | 'userKnownHostsFiles'
  | 'globalKnownHostsFiles'
  | 'hashKnownHosts'
  | 'unknownHostKey'
>

interface KnownLine extends KnownHostLine {
  readonly file: string
}

export interface HostKeyCheck {
  /** Signature algorithms, those of known keys first, so that the server presents a known one. */
  readonly algorithms: readonly string[]
  /** @throws HowdahError `unauthorized` with the reason in full */
  verify(key: Buffer): Promise<void>
}

export interface HostKeyOptions {
  readonly settings: KeySettings
  /** What the key must be, as `SHA256:…`: asks nobody. */
  readonly fingerprint: string | undefined
  readonly secrets: Pick<Secrets, 'confirm'>
  /** Tells the operator what was done. */
  readonly note: (text: string) => void
  /** All that the client can verify, best first. */
  readonly supported: readonly string[]
}

export function createHostKeyCheck({
  settings,
  fingerprint,
  secrets,
  note,
  supported,
}: HostKeyOptions): HostKeyCheck {
  const name = settings.hostKeyAlias ?? settings.host
  const port = settings.hostKeyAlias === undefined ? settings.port : 22
  const shown = hostEntry(settings.host, settings.port)
  const lines = [...settings.userKnownHostsFiles, ...settings.globalKnownHostsFiles].flatMap((file) =>
    linesOfHost(readIfThere(file), name, port).map((line): KnownLine => ({ ...line, file })),
  )
  const known = lines.filter(({ marker }) => marker === '')
  const algorithms = known.flatMap(({ type }) => signaturesOf(type)).filter((one) => supported.includes(one))

  async function verify(key: Buffer): Promise<void> {
    const [type, text, print] = [typeOfKey(key), key.toString('base64'), fingerprintOf(key)]
    const revoked = lines.find((line) => line.marker === '@revoked' && line.key === text)
    if (revoked)
      throw refusal(`the host key of ${shown} is revoked by ${where(revoked)}. Do not connect to this host.`)
    const changed = known.find((line) => line.type === type && line.key !== text)
    const isKnown = known.some((line) => line.key === text)
    if (changed && !isKnown)
      throw refusal(changedKey({ shown, print, type, changed, name: hostEntry(name, port) }))
    if (fingerprint !== undefined && !hasFingerprint(key, fingerprint))
      throw refusal(`the ${type} key of ${shown} is ${print}, not ${fingerprint} as --fingerprint demands.`)
    if (isKnown) return
    if (fingerprint === undefined) await confirm(type, print)
    remember(type, text)
  }

  async function confirm(type: string, print: string): Promise<void> {
    const others = [...new Set(known.map((line) => line.type))]
    const authority = lines.find(({ marker }) => marker === '@cert-authority')
    const reasons = [
      `The authenticity of host ${shown} cannot be established.`,
      `Its ${type} key fingerprint is ${print}.`,
      ...(others.length === 0 ? [] : [`Of this host only other keys are known: ${others.join(', ')}.`]),
      ...(authority === undefined
        ? []
        : [
            `${where(authority)} trusts a certificate authority for it; Howdah verifies no host certificates.`,
          ]),
    ].join(' ')
    if (settings.unknownHostKey === 'accept') return
    const answer =
      settings.unknownHostKey === 'refuse'
        ? undefined
        : await secrets.confirm(`${reasons}\nAre you sure you want to continue connecting?`)
    if (answer === true) return
    const why = answer === false ? 'It was not accepted.' : 'There is nobody to ask.'
    throw refusal(
      `${reasons} ${settings.unknownHostKey === 'refuse' ? 'StrictHostKeyChecking refuses it.' : why} Compare it with "ssh-keygen -lf /etc/ssh/ssh_host_${fileOfType(type)}_key.pub" on that host, then give --fingerprint ${print}.`,
    )
  }

  function remember(type: string, text: string): void {
    const [file] = settings.userKnownHostsFiles
    if (file === undefined || file === '/dev/null') return
    const entry = settings.hashKnownHosts
      ? hashedHostEntry(name, port, randomBytes(20))
      : hostEntry(name, port)
    try {
      mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
      const before = readIfThere(file)
      const start = before === '' || before.endsWith('\n') ? '' : '\n'
      appendFileSync(file, `${start}${entry} ${type} ${text}\n`, { mode: 0o600 })
      note(`Permanently added ${shown} (${type}) to the list of known hosts.`)
    } catch (error) {
      note(`The key of ${shown} could not be added to the known hosts: ${(error as Error).message}`)
    }
  }

  return { algorithms: [...new Set([...algorithms, ...supported])], verify }
}

interface Change {
  readonly shown: string
  readonly name: string
  readonly print: string
  readonly type: string
  readonly changed: KnownLine
}

/** As OpenSSH says it. */
function changedKey({ shown, name, print, type, changed }: Change): string {
  return (
    `REMOTE HOST IDENTIFICATION HAS CHANGED: the ${type} key of ${shown} is ${print}, and ${where(changed)} has another one. ` +
    'Someone could be eavesdropping on you right now (man-in-the-middle attack), or the host was installed again. ' +
    `Nothing was sent to it. When its administrator confirms the new fingerprint, remove the old key: ssh-keygen -f ${changed.file} -R '${name}'`
  )
}

const where = ({ file, number }: KnownLine): string => `${file}, line ${number},`.replace(/,$/, '')

function fileOfType(type: string): string {
  return type.replace(/^ssh-|-sha2-.*$/g, '')
}

function refusal(message: string): HowdahError {
  return new HowdahError('unauthorized', message)
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return ''
    throw new HowdahError('unauthorized', `known hosts cannot be read: ${(error as Error).message}`, {
      cause: error,
    })
  }
}
