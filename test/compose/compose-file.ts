/** Owns reading docker-compose.yml: what docker-compose makes of it, and the commands in its first comment. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { parse } from 'yaml'
import { PLANTED } from '../support/secrets.ts'

export const CHECKOUT = path.resolve(import.meta.dirname, '../..')
export const STORE_PASSWORD = `${PLANTED}store`
const FILE = path.join(CHECKOUT, 'docker-compose.yml')

export interface Healthcheck {
  readonly test?: readonly string[]
  readonly disable?: boolean
  readonly timeout?: string
}

export type Condition = 'service_healthy' | 'service_completed_successfully'

/** As docker-compose prints it: anchors, merges and variables are resolved, a dollar sign is doubled. */
export interface Service {
  readonly image: string
  readonly restart?: string
  readonly init?: boolean
  readonly user?: string
  readonly hostname?: string
  readonly command?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly healthcheck?: Healthcheck
  readonly depends_on?: Readonly<Record<string, { readonly condition: Condition }>>
  readonly cap_drop?: readonly string[]
  readonly cap_add?: readonly string[]
  readonly security_opt?: readonly string[]
  readonly privileged?: boolean
  readonly read_only?: boolean
  readonly network_mode?: string
  readonly tmpfs?: readonly string[]
  readonly devices?: readonly string[]
  readonly volumes?: readonly string[]
  readonly shm_size?: string | number
  readonly stop_grace_period?: string
}

export type Services = Readonly<Record<string, Service>>

export function readServices(): Services {
  // Debian's docker-compose 1.29 knows everything in the file but the name of the project.
  const input = readFileSync(FILE, 'utf8').replace(/^name: .*$/m, '')
  const env = { ...process.env, STORE_PASSWORD }
  const output = execFileSync('docker-compose', ['-f', '-', '--project-directory', CHECKOUT, 'config'], {
    ...{ input, env, stdio: ['pipe', 'pipe', 'pipe'] },
  })
  return (parse(output.toString()) as { services: Services }).services
}

/** Of a duration as `1m0s`. @throws Error when it is none */
export function milliseconds(duration = ''): number {
  const [, minutes = 0, seconds = 0] = /^(?=.)(?:(\d+)m)?(?:(\d+)s)?$/.exec(duration) ?? []
  const total = (Number(minutes) * 60 + Number(seconds)) * 1_000
  if (total === 0) throw new Error(`not a duration: ${duration}`)
  return total
}

/** A dollar sign is doubled in the file where it is meant for the container. */
export function unescapeDollars(words: readonly string[]): string[] {
  return words.map((word) => word.replaceAll('$$', '$'))
}

/** The commands of the first comment that run in a service: `docker compose exec SERVICE COMMAND…`. */
export function commandsInside(): { service: string; command: string[] }[] {
  const [comment = ''] = readFileSync(FILE, 'utf8').split(/^name:/m)
  return [...comment.matchAll(/^# +docker compose exec (\S+) ([^#\n]+)/gm)].map(
    ([, service = '', command = '']) => ({
      service,
      command: command.trim().split(/ +/),
    }),
  )
}
