/**
 * Agents on hosts without systemd: bin/howdah-supervise runs each, and an init script (LSB) starts it at boot. Debian's
 * update-rc.d, which every Debian has, or chkconfig registers the script; sysvinit and OpenRC run it.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { identify } from '../../../config/process-identity.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { type AgentKind, type HostPaths, roleOf } from './host-paths.ts'
import { installFile, ownFile, removeFile } from './installed-file.ts'
import { readIfThere } from './managed-file.ts'
import { type HostReport, note } from './report.ts'
import { runProgram } from './run-program.ts'
import type { Supervisor } from './supervisor.ts'

const EVERY_MS = 50
const START_DEADLINE_MS = 15_000
/** Longer than howdah-supervise takes to stop an agent that does not. */
const STOP_DEADLINE_MS = 40_000
const LOG_LINES = 5
const REGISTER = [
  ['update-rc.d', ['@', 'defaults'], ['-f', '@', 'remove']],
  ['chkconfig', ['--add', '@'], ['--del', '@']],
] as const

export function createInitSupervisor(paths: HostPaths): Supervisor {
  const scriptOf = (kind: AgentKind) => path.join(paths.initScripts, `howdah-${roleOf(kind)}`)
  const runFile = (kind: AgentKind, ending: string) => path.join(paths.run, `${roleOf(kind)}.${ending}`)

  /** The process that a file names, by its number and start time; undefined: it has ended. */
  async function recorded(file: string): Promise<number | undefined> {
    const [pid, startTime] = (await readIfThere(file))?.trim().split(' ') ?? []
    const found = pid === undefined ? undefined : identify(Number(pid))
    return found?.startTime === startTime ? found?.pid : undefined
  }

  // Not by its lock: whoever tries that may keep a supervisor that starts from getting it.
  const supervisorOf = (kind: AgentKind) => recorded(runFile(kind, 'supervisor'))
  const agentOf = (kind: AgentKind) => recorded(runFile(kind, 'pid'))

  async function start(kind: AgentKind): Promise<void> {
    if ((await supervisorOf(kind)) !== undefined && (await agentOf(kind)) !== undefined) return
    const child = spawn(path.join(paths.programs, 'current/bin/howdah-supervise'), [roleOf(kind)], {
      detached: true,
      cwd: '/',
      stdio: 'ignore',
      env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' },
    })
    const failed = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message))
      child.once('exit', (status) => resolve(`howdah-supervise ended with status ${status}`))
    })
    child.unref()
    const runs = async () => (await supervisorOf(kind)) !== undefined && (await agentOf(kind)) !== undefined
    const failure = await Promise.race([until(runs, START_DEADLINE_MS), failed])
    if (failure === true || (await runs())) return
    throw new HowdahError(
      'operation_failed',
      `the ${roleOf(kind)} does not run${failure === false ? '' : `: ${failure}`}; the end of its log:\n${await logEnd(kind)}`,
    )
  }

  async function stop(kind: AgentKind): Promise<void> {
    const supervisor = await supervisorOf(kind)
    // An agent that lost its supervisor is stopped as the supervisor would.
    const victim = supervisor ?? (await agentOf(kind))
    if (victim === undefined) return
    process.kill(victim, 'SIGTERM')
    const stopped = async () =>
      (await supervisorOf(kind)) === undefined && (await agentOf(kind)) === undefined
    if (await until(stopped, STOP_DEADLINE_MS)) return
    throw new HowdahError('timeout', `the ${roleOf(kind)} (process ${victim}) does not stop`)
  }

  async function logEnd(kind: AgentKind): Promise<string> {
    const text = (await readIfThere(path.join(paths.log, `${roleOf(kind)}.log`))) ?? ''
    return text.trimEnd().split('\n').slice(-LOG_LINES).join('\n')
  }

  return {
    name: 'howdah-supervise',
    async install(kind, report) {
      const script = scriptOf(kind)
      if (!existsSync(paths.initScripts)) {
        const what = 'start at boot: there is no /etc/init.d here'
        note(report, `${what}; have what starts this host run "howdah agent start --kind ${kind}"`, false)
        return
      }
      const text = ownFile('howdah-agent.init', { ROLE: roleOf(kind), KIND: kind })
      const installed = await installFile(script, text, 0o755)
      const edited = installed === 'edited' ? ': it was edited; remove it and repeat this for ours' : ''
      note(report, `${script}${edited}`, installed === 'changed')
      await register(path.basename(script), 'add', report)
    },
    async uninstall(kind, report) {
      const script = scriptOf(kind)
      if (await removeFile(script)) {
        note(report, script, true)
        await register(path.basename(script), 'remove', report)
      }
      for (const ending of ['pid', 'supervisor', 'lock']) await removeFile(runFile(kind, ending))
    },
    start,
    stop,
    process: agentOf,
  }
}

/** @throws HowdahError `operation_failed` */
async function register(script: string, what: 'add' | 'remove', report: HostReport): Promise<void> {
  for (const [program, add, remove] of REGISTER) {
    const args = (what === 'add' ? add : remove).map((word) => (word === '@' ? script : word))
    const { status, stderr } = await runProgram(program, args)
    if (status === 127) continue
    if (status === 0) return
    throw new HowdahError('operation_failed', `${program} ${args.join(' ')}: ${stderr.trim()}`)
  }
  if (what === 'add')
    note(report, `start at boot: neither update-rc.d nor chkconfig is here to register ${script}`, false)
}

async function until(condition: () => Promise<boolean>, deadlineMs: number): Promise<boolean> {
  const deadline = performance.now() + deadlineMs
  while (!(await condition())) {
    if (performance.now() > deadline) return false
    await delay(EVERY_MS)
  }
  return true
}
