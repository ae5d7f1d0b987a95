/**
 * `npm run screenshots`: takes the pictures of docs/operations.md from the real console of a private RabbitMQ, with a
 * session that is published and a message that could not be handled. Removes everything else that it made.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { chromium, type Page } from 'playwright-core'
import { connectRaw } from '../messages/raw-client.ts'
import { cleanEnvironment, LAUNCHER } from '../support/fleet-roles.ts'
import { type ManagementApi, managementApi } from '../support/management-api.ts'
import { makeProduction, type Production } from '../support/production.ts'

const run = promisify(execFile)
const IMAGES = path.join(import.meta.dirname, '../../docs/images')
const CHROMIUM = '/usr/bin/chromium'
const FLAGS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync'],
]
const VIEW = { width: 1180, height: 700 }
const PAGE_MS = 30_000
/** RabbitMQ counts every five seconds. */
const COUNTED_MS = 7_000
const SLIDE_MS = 1_500
/** Of the console's heading, which stays on top. */
const HEADING = 116
/** A queue of the operator's own, which gets a copy of what a session's messages are. */
const TRACE = 'operator.trace'

const INSTANCE = 'main'

interface Console {
  readonly url: string
  readonly user: string
  readonly password: string
}

const directory = await mkdtemp(path.join(tmpdir(), 'howdah-screenshots-'))
// PostgreSQL's user enters it.
await chmod(directory, 0o755)
const state = path.join(directory, 'state')
let production: Production | undefined
let up: ChildProcess | undefined
try {
  production = await makeProduction({
    directory: path.join(directory, 'production'),
    tablespace: false,
    stanza: INSTANCE,
  })
  await production.backup('full')
  up = await startUp(production.path)
  const shown: Console = JSON.parse(await readFile(path.join(state, 'console.json'), 'utf8'))
  const api = managementApi(`http://${shown.user}:${shown.password}@${new URL(shown.url).host}`)
  await prepare(api)
  await mkdir(IMAGES, { recursive: true })
  await takePictures(shown)
} finally {
  if (up && up.exitCode === null) {
    up.kill('SIGTERM')
    await once(up, 'exit')
  }
  await production?.remove()
  await rm(directory, { recursive: true, force: true })
}

async function startUp(repository: string): Promise<ChildProcess> {
  const roots = {
    HOWDAH_MOUNT_ROOT: path.join(directory, 'mnt'),
    HOWDAH_CACHE_ROOT: path.join(directory, 'cache'),
  }
  const flags = ['--console', '--json', '--unpublish-on-exit', '--state', state]
  const child = spawn(LAUNCHER, ['up', ...flags, '--repository', `prod=pgbackrest:${repository}`], {
    env: { ...cleanEnvironment(), ...roots },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('howdah up ended')))
  await Promise.race([once(child.stdout as NodeJS.ReadableStream, 'data'), ended])
  ended.catch(() => {})
  return child
}

/** A session, a copy of its messages, and a dead letter. */
async function prepare(api: ManagementApi): Promise<void> {
  await api.send('PUT', `queues/%2F/${TRACE}`, { durable: true })
  for (const [exchange, key] of [
    ['howdah.agents', 'target.local'],
    ['howdah.events', 'session.#'],
  ]) {
    await api.send('POST', `bindings/%2F/e/${exchange}/q/${TRACE}`, { routing_key: key })
  }
  const place = ['--repository', 'prod', '--instance', INSTANCE, '--target', 'local']
  await run(LAUNCHER, ['publish', ...place, '--reference', 'ticket-4711', '--state', state, '--json'], {
    env: cleanEnvironment(),
  })
  const raw = await connectRaw(JSON.parse(await readFile(path.join(state, 'up.json'), 'utf8')).broker)
  await raw.publish('howdah.commands', 'instance.publish', '{"repository":"prod","instance":"main"}', {
    ...{ type: 'instance.publish', messageId: 'nightly-4712', userId: 'howdah', appId: 'backup-software' },
    headers: { 'howdah-version': 2 },
  })
  await raw.close()
}

async function takePictures({ url, user, password }: Console): Promise<void> {
  const context = await chromium.launchPersistentContext(path.join(directory, 'browser'), {
    ...{ executablePath: CHROMIUM, headless: true, args: FLAGS, viewport: VIEW },
  })
  try {
    const page = context.pages()[0] ?? (await context.newPage())
    page.setDefaultTimeout(PAGE_MS)
    await page.goto(url)
    await page.fill('input[name=username]', user)
    await page.fill('input[name=password]', password)
    await page.click('input[type=submit]')
    await page.waitForSelector('#main h1')
    await page.waitForTimeout(COUNTED_MS)
    await picture(page, 'connections', '#/connections', 'howdah target local', 560)
    await picture(page, 'queues', '#/queues', 'howdah.dead-letters', 700)
    await picture(
      page,
      'queue-of-an-agent',
      '#/queues/%2F/howdah.target.local',
      'howdah target local',
      700,
      'Consumers',
    )
    await messages(page, 'dead-letter', 'howdah.dead-letters', 'howdah-reason', 1)
    await messages(page, 'message-of-a-session', TRACE, 'howdah-session', 2)
  } finally {
    await context.close()
  }
}

/** @param section its heading; the picture begins with it */
async function picture(
  page: Page,
  name: string,
  hash: string,
  text: string,
  height: number,
  section?: string,
): Promise<void> {
  await page.goto(`${baseOf(page)}/${hash}`)
  await page.getByText(text).first().waitFor({ state: 'attached' })
  if (section !== undefined) {
    const heading = page.locator('h2', { hasText: section }).first()
    const isOpen = await heading.evaluate(
      (element) => element.parentElement?.classList.contains('section-visible') ?? false,
    )
    if (!isOpen) await heading.click()
    await heading.scrollIntoViewIfNeeded()
    await heading.evaluate((element) => element.scrollIntoView())
  }
  await save(page, name, height)
}

/** The first messages of a queue, which stay in it. */
async function messages(page: Page, name: string, queue: string, text: string, count: number): Promise<void> {
  await page.goto(`${baseOf(page)}/#/queues/%2F/${queue}`)
  const heading = page.locator('h2', { hasText: 'Get messages' })
  await heading.waitFor()
  // The console remembers which sections are open.
  if (!(await page.locator('input[name=count]').isVisible())) await heading.click()
  await page.fill('input[name=count]', String(count))
  await page.locator('form[action="#/queues/get"] input[type=submit]').click()
  await page.locator('#msg-wrapper').getByText(text).first().waitFor()
  // It slides into view.
  await page.waitForTimeout(SLIDE_MS)
  await page.locator('#msg-wrapper').evaluate((element) => element.scrollIntoView({ block: 'end' }))
  await save(page, name, 620)
}

function baseOf(page: Page): string {
  return new URL(page.url()).origin
}

async function save(page: Page, name: string, height: number): Promise<void> {
  const file = path.join(IMAGES, `console-${name}.png`)
  await page.screenshot({
    path: file,
    clip: { x: 0, y: HEADING, width: VIEW.width, height: Math.min(height, VIEW.height - HEADING) },
  })
  process.stdout.write(`${path.relative(process.cwd(), file)}\n`)
}
