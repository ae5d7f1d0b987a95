/** Runs nft(8). */
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { ADMINISTRATION_PATH } from './programs.ts'

const DEADLINE_MS = 10_000

/** @throws Error with the first line of nft's stderr */
export async function nft(args: readonly string[], input = ''): Promise<string> {
  const child = spawn('nft', args, {
    env: { PATH: ADMINISTRATION_PATH, LC_ALL: 'C' },
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: DEADLINE_MS,
    killSignal: 'SIGKILL',
  })
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  // If nft ends before it has read its input, its status says why.
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  const [status, output, errors] = await Promise.all([ended, text(child.stdout), text(child.stderr)])
  if (status !== 0) throw new Error(`nft: ${errors.trim().split('\n')[0] || `ended with status ${status}`}`)
  return output
}

/** Applies commands of nft(8) as one transaction. */
export async function applyRules(rules: string): Promise<void> {
  await nft(['-f', '-'], rules)
}

/** Names of the tables of family inet. */
export async function listTables(): Promise<Set<string>> {
  const output = await nft(['list', 'tables', 'inet'])
  return new Set(Array.from(output.matchAll(/^table inet (\S+)$/gm), ([, name = '']) => name))
}
