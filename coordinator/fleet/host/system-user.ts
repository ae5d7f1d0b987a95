/** The system user `howdah`, which mount agents run as. Target agents run as root. */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { HowdahError } from '../../../messages/errors.ts'
import { type AgentKind, SYSTEM_USER } from './host-paths.ts'
import type { Owner } from './managed-file.ts'
import { runProgram } from './run-program.ts'

const RETRY_MS = 200

/** Who an agent runs as. @throws HowdahError `user_missing` */
export async function agentOwner(kind: AgentKind): Promise<Owner> {
  if (kind === 'target') return { uid: 0, gid: 0 }
  const user = await findSystemUser()
  if (user !== undefined) return user
  throw new HowdahError('user_missing', `there is no user ${SYSTEM_USER}; "howdah agent setup" makes it`)
}

/** Undefined: there is none. */
export function findSystemUser(): Promise<Owner | undefined> {
  return findAccount(SYSTEM_USER)
}

/** A user of this machine; undefined: there is none of that name. */
export async function findAccount(name: string): Promise<Owner | undefined> {
  // From all sources of the name service, as the agent's own supervisor asks.
  const { status, stdout } = await runProgram('getent', ['passwd', name])
  if (status !== 0) return undefined
  const [, , uid, gid] = stdout.split(':')
  return { uid: Number(uid), gid: Number(gid) }
}

/** @returns whether it was made */
export async function ensureSystemUser(home: string): Promise<boolean> {
  if ((await findSystemUser()) !== undefined) return false
  const args = ['--system', '--user-group', '--no-create-home', '--home-dir', home]
  const { status, stderr } = await runProgram('useradd', [
    ...args,
    '--shell',
    '/usr/sbin/nologin',
    SYSTEM_USER,
  ])
  // Another set-up may have made it meanwhile.
  if (status === 0) return true
  if ((await findSystemUser()) !== undefined) return false
  throw new HowdahError('operation_failed', `useradd cannot make the user ${SYSTEM_USER}: ${stderr.trim()}`)
}

/**
 * Waits for processes of the user, which userdel(8) names one at a time.
 * @throws HowdahError `operation_failed`, with the command line of a process that does not end
 */
export async function deleteSystemUser(deadlineMs: number): Promise<void> {
  const deadline = performance.now() + deadlineMs
  for (;;) {
    const { status, stderr } = await runProgram('userdel', [SYSTEM_USER])
    if (status === 0) return
    const pid = /used by process (\d+)/.exec(stderr)?.[1]
    if (pid === undefined || performance.now() > deadline) {
      const running = pid === undefined ? '' : ` (${commandLine(pid)})`
      throw new HowdahError('operation_failed', `userdel ${SYSTEM_USER}: ${stderr.trim()}${running}`)
    }
    await delay(RETRY_MS)
  }
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim() || 'it ends'
  } catch {
    return 'it has ended'
  }
}
