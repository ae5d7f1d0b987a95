/**
 * `npm run demo`: publishes a PostgreSQL instance straight from its backup repository on this machine and narrates each
 * step. Removes everything that it made, also after Ctrl-C or a failure.
 *
 * `npm run demo -- --keep` leaves the published instance up until Ctrl-C.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { formatDuration } from '../../coordinator/cli/format.ts'
import { createTerminal } from '../../coordinator/cli/terminal.ts'
import type { SessionView } from '../../messages/values.ts'
import { POSTGRES_MAJOR } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { createHowdah, type Howdah } from './howdah.ts'
import { logTail } from './logs.ts'
import { createNarration } from './narration.ts'
import { createDemoResources } from './resources.ts'
import { backUp, change, type PublishedSession, publish, REPOSITORY, STANZA, showFetching } from './story.ts'

const CLEAN_UP_MS = 300_000

const USAGE = `Usage: npm run demo [-- --keep] [-- --scale N]

Publishes a PostgreSQL instance from a pgBackRest repository that it makes first.
  --keep      leave the published instance up, to play with, until Ctrl-C
  --scale N   pgbench scale of the production, 15 MB each (default: 20)
`

function readOptions(): { keep: boolean; scale: number } {
  try {
    const { values } = parseArgs({
      options: {
        keep: { type: 'boolean' },
        scale: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    })
    if (values.help === true) {
      process.stdout.write(USAGE)
      process.exit(0)
    }
    const scale = Number(values.scale ?? 20)
    if (!Number.isInteger(scale) || scale < 1) throw new Error('--scale needs a whole number from 1')
    return { keep: values.keep ?? false, scale }
  } catch (error) {
    process.stderr.write(`demo: ${(error as Error).message}\n\n${USAGE}`)
    process.exit(2)
  }
}

const { keep, scale } = readOptions()
// The locale may be C, as on a new Debian, but terminals show UTF-8 unless LC_ALL says otherwise.
const terminal = createTerminal(process.stdout, { LC_ALL: 'C.UTF-8', ...process.env })
const narration = createNarration(terminal)
const interruption = new AbortController()
const { signal } = interruption
const resources = createDemoResources()
const begun = performance.now()

for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => {
    if (signal.aborted) terminal.line('\n   Still cleaning up; a moment, please.')
    interruption.abort(new Error(`interrupted by ${name}`))
  })
}

if (process.getuid?.() !== 0) {
  process.stderr.write('demo: only root can mount and change to the postgres user; run it again with sudo.\n')
  process.exit(1)
}

terminal.line(terminal.style('bold', 'Howdah: a PostgreSQL instance published straight from its backup'))

const directory = await mkdtemp(join(tmpdir(), 'howdah-demo-'))
await chmod(directory, 0o755)
resources.addName(directory)
resources.addDirectory(directory)

let production: Production | undefined
let howdah: Howdah | undefined
let published: PublishedSession | undefined
let kept = false

/** Ends the demo after a step that cannot be interrupted itself. */
const unlessInterrupted = <T>(value: T): T => {
  signal.throwIfAborted()
  return value
}

async function runDemo(): Promise<void> {
  narration.chapter('A production with a backup')
  production = await narration.step(
    `PostgreSQL ${POSTGRES_MAJOR}, pgbench scale ${scale}, a tablespace, WAL archiving on`,
    () => makeProduction({ directory: join(directory, 'production'), scale, stanza: STANZA, compress: 'gz' }),
  )
  const made = unlessInterrupted(await backUp(narration, production))

  narration.chapter('Howdah')
  howdah = createHowdah({
    state: join(directory, 'state'),
    repository: `${REPOSITORY}=pgbackrest:${production.path}`,
    logFile: join(directory, 'howdah.log'),
    env: process.env,
    signal,
  })
  narration.command(`howdah up --repository ${REPOSITORY}=pgbackrest:PATH`)
  const started = howdah
  await narration.step('Broker, coordinator, mount agent and target agent are up', () => started.up())

  narration.chapter('Publish')
  published = await publish(narration, howdah, made, signal)
  track(published.session)

  narration.chapter('Change it')
  await change(narration, howdah, made, published)

  narration.chapter('Look')
  await showFetching(narration, howdah, made, published)

  if (keep) await keepPublished(published)
}

/** Registers what a session has on this machine, to be removed in the end. */
function track({ id, mountPoint, writeCache }: SessionView): void {
  resources.addName(id)
  for (const path of [mountPoint, writeCache?.path]) if (path !== undefined) resources.addDirectory(path)
}

async function keepPublished({ instance, session }: PublishedSession): Promise<void> {
  kept = true
  narration.chapter('Try it yourself')
  terminal.line()
  terminal.line(`   ${terminal.style('bold', instance.psqlLine)}`)
  terminal.line()
  narration.paragraph('Its session, from this checkout:')
  terminal.line(`     bin/howdah show ${session.id} --state ${join(directory, 'state')}`)
  terminal.line()
  narration.paragraph('Ctrl-C here unpublishes it and removes everything that the demo made.')
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
  terminal.line()
}

/** Unpublishes, stops, deletes, and checks that nothing is left. Returns what went wrong. */
async function cleanUp(): Promise<string[]> {
  const wrong: string[] = []
  const attempt = async (text: string, work: () => Promise<unknown>) => {
    try {
      await narration.step(text, work)
    } catch (error) {
      wrong.push(`${text}: ${(error as Error).message}`)
    }
  }
  narration.chapter('Unpublish and clean up')
  if (howdah !== undefined) {
    const client = howdah.withSignal(AbortSignal.timeout(CLEAN_UP_MS))
    const open = await client.json<{ sessions: SessionView[] }>('sessions').catch((error: Error) => {
      if (published !== undefined) wrong.push(`the sessions cannot be listed: ${error.message}`)
      return { sessions: [] }
    })
    for (const session of open.sessions) {
      track(session)
      await attempt(`Session ${session.id} unpublished`, () => client.run('unpublish', session.id, '--yes'))
    }
    await attempt('Howdah and its broker stopped', () => client.stop())
  }
  await attempt('Production, repository and state removed', async () => {
    await production?.remove()
    if (wrong.length === 0) await rm(directory, { recursive: true, force: true })
  })
  await attempt('Nothing is left of it but fetched blocks, for the next publish', async () => {
    const left = await resources.remaining()
    if (left.length > 0) throw new Error(`these were left, and are removed by force now:\n${left.join('\n')}`)
  })
  if (wrong.length > 0) await resources.removeByForce()
  return wrong
}

/** Shows why the demo failed, with the ends of the logs. */
async function reportFailure(error: unknown): Promise<void> {
  narration.failure(`The demo failed: ${error instanceof Error ? error.message : String(error)}`)
  const logs = [
    howdah?.logFile,
    published?.session.writeCache && join(published.session.writeCache.path, 'log/postgresql.log'),
    howdah === undefined ? join(directory, 'production/postgres.log') : undefined,
  ]
  for (const path of logs) {
    const lines = path === undefined ? [] : await logTail(path)
    if (lines.length === 0) continue
    terminal.line()
    narration.paragraph(`The end of ${path}:`)
    for (const line of lines) terminal.line(`     ${line}`)
  }
}

let failed = false
try {
  await runDemo()
} catch (error) {
  if (signal.aborted) {
    narration.paragraph('Interrupted.')
  } else {
    failed = true
    await reportFailure(error)
  }
}
const wrong = await cleanUp()
for (const text of wrong) narration.failure(text)
terminal.line()
terminal.line(`   Total time: ${formatDuration(performance.now() - begun)}.`)
process.exitCode = failed || wrong.length > 0 ? 1 : signal.aborted && !kept ? 130 : 0
