import { execFile } from 'node:child_process'
import { readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { pino } from 'pino'
import { stepResults } from '../coordinator/step-results.ts'
import { cleanEnvironment, LAUNCHER } from '../support/fleet-roles.ts'
import { startTestBroker } from '../support/rabbitmq.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { type ScriptedFleet, startScriptedFleet } from '../support/scripted-fleet.ts'

const run = promisify(execFile)
const PAGE = new URL('../../docs/integration.md', import.meta.url)
const JARS = ['amqp-client', 'gson', 'slf4j-api', 'slf4j-nop'].map((name) => `/usr/share/java/${name}.jar`)
const DEADLINE_MS = 60_000

/** How a program of that language is run, from its file. */
const LANGUAGES: Readonly<Record<string, { file: string; command: readonly string[] }>> = {
  python: { file: 'publish.py', command: ['/usr/bin/python3'] },
  bash: { file: 'publish.sh', command: ['bash', '-u'] },
  java: { file: 'Publish.java', command: ['java', '-cp', JARS.join(':')] },
}

describe('the programs of docs/integration.md', function () {
  this.timeout(2 * DEADLINE_MS)
  let fleet: ScriptedFleet
  let directory: string
  let page: string
  /** Of a user with the permissions of a client. */
  let url: string

  before(async () => {
    directory = await scratchDirectory('howdah-integration-')
    page = await readFile(PAGE, 'utf8')
    const logger = pino({ level: 'silent' })
    const broker = await startTestBroker({
      ...{ directory: path.join(directory, 'broker'), logger, management: true },
    })
    try {
      const passwords = path.join(directory, 'passwords')
      await run(LAUNCHER, ['broker', 'setup', '--passwords', passwords, '--client', 'backup', '--apply'], {
        env: { ...cleanEnvironment(), HOWDAH_MANAGEMENT_URL: broker.managementUrl },
      })
      const client = new URL(`${broker.url}/howdah`)
      client.username = 'howdah-client-backup'
      client.password = (await readFile(path.join(passwords, `${client.username}.password`), 'utf8')).trim()
      url = client.href
    } catch (error) {
      await broker.stop()
      throw error
    }
    fleet = await startScriptedFleet({ vhost: { url: `${broker.url}/howdah`, remove: broker.stop } })
  })

  after(async () => {
    await fleet?.remove()
    if (directory !== undefined) await rm(directory, { recursive: true })
  })

  /** As the page has it, but for where the broker is, and what is published there. */
  async function program(language: string, repository = 'main') {
    const found = new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``).exec(page)?.[1] ?? expect.fail()
    const { file, command } = LANGUAGES[language] ?? expect.fail()
    const text = found.replace('amqp://user:password@broker/howdah', url).replace('"prod"', `"${repository}"`)
    expect(text).to.include(url).and.to.include(`"${repository}"`)
    await writeFile(path.join(directory, file), text)
    const [name = '', ...args] = command
    return run(name, [...args, path.join(directory, file)], { timeout: DEADLINE_MS })
  }

  for (const language of Object.keys(LANGUAGES)) {
    it(`in ${language} publishes, and knows when and where the instance is up`, async () => {
      const { stdout, stderr } = await program(language)
      expect(stderr).to.equal('')
      expect(stdout).to.match(/^published/m)
      expect(stdout).to.include(`port ${stepResults.recover.connection.port}`)
    })

    it(`in ${language} says why a command is refused`, async () => {
      const failure = await program(language, 'nothing').then(
        () => undefined,
        (error: { code: number; stderr: string }) => error,
      )
      expect(failure?.code).to.equal(1)
      expect(failure?.stderr).to.include('"nothing"')
    })
  }
})
